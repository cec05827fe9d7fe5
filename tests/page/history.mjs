// Steps through the history of a page, for both drivers.

/** Goes back once the browser, which holds the history, knows the address that the page shows. */
export async function back(page) {
  const session = await page.context().newCDPSession(page);
  for (let current = ""; current !== await page.evaluate(() => location.href);) {
    const { currentIndex, entries } = await session.send("Page.getNavigationHistory");
    current = entries[currentIndex].url;
  }
  await session.detach();
  await page.goBack();
}

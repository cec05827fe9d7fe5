"""README.md of an exported page."""

from __future__ import annotations

from multimodal.core.paths import assets
from multimodal.core.space import Space
from multimodal.exporting.page.report import PageExport

NOTICE = "starter/NOTICE.md"


def text(space: Space, title: str, report: PageExport) -> str:
    """What the folder holds, how it is served, and the licences."""
    table = "\n".join(f"| {part} | {size} |" for part, size in report.cells())
    licence = "not stated by the model's card" if space.card is None else space.card.licence
    notice = (assets() / NOTICE).read_text(encoding="utf-8").replace("\n# ", "\n## ").removeprefix("# ")
    return f"""# {title}

A page that searches {report.n_items:,} items in the browser, by text, images and speech. Queries stay on the device;
the page asks no other host.

Serve the folder over HTTP, by any server of files: `python -m http.server`, then http://localhost:8000. Browsers do not
load it from `file://`. Over HTTPS, and on localhost, it also works without a network after the first visit, can be
installed, and records speech.

| part | size |
|---|---:|
{table}

Model: `{space.address or space.name}`, fingerprint `{report.fingerprint}`. Vectors of the items: {report.vectors}.
`index.json` holds the names, texts and metadata of the items: publish the folder only if these may be public.

## Licences

Weights: {licence}. Scripts of the page: Apache-2.0. Media: those of their owners.

## {notice}"""

// Adding files to the index, one by one, with the reason for each that fails.

import * as api from "./api.js";
import { counted, dialog, iconButton, make } from "./dom.js";

const AT_ONCE = 2;

/**
 * @param {string} index
 * @param {() => void} added called when at least one file was added and the dialog is closed
 */
export function open(index, added) {
  let succeeded = 0, failed = 0, running = 0;
  /** @type {{file: File, row: HTMLElement}[]} */
  const waiting = [];
  const box = dialog("Add files", "panel", () => succeeded && added());
  const status = make("p", { role: "status", className: "soft" });
  const list = make("ul", { className: "uploads", role: "list" });
  const picker = make("input", { type: "file", multiple: true, id: "upload-files" });
  const zone = make("label", { className: "zone", for: "upload-files" }, "Choose files, or drop them here", picker);
  const tell = () => {
    const left = waiting.length + running;
    status.textContent = [succeeded && `${counted(succeeded, "file")} added`, failed && `${failed} failed`,
      left && `${left} to go`].filter(Boolean).join(", ");
  };
  const next = async () => {
    const job = waiting.shift();
    if (!job) return;
    running++;
    job.row.className = "busy";
    const result = await api.upload(index, job.file);
    running--;
    job.row.className = result.ok ? "done" : "failed";
    job.row.append(make("span", { className: "reason" }, result.reason));
    if (result.ok) succeeded++;
    else failed++;
    tell();
    void next();
  };
  const take = (/** @type {Iterable<File>} */ files) => {
    for (const file of files) {
      const row = make("li", { className: "waiting" }, make("span", { className: "name" }, file.name));
      list.append(row);
      waiting.push({ file, row });
    }
    tell();
    while (running + 0 < AT_ONCE && waiting.length) void next();
  };
  picker.addEventListener("change", () => {
    take(picker.files ?? []);
    picker.value = "";
  });
  zone.addEventListener("dragover", (event) => {
    event.preventDefault();
    zone.classList.add("over");
  });
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    zone.classList.remove("over");
    take(event.dataTransfer?.files ?? []);
  });
  box.append(make("header", {}, make("h2", {}, "Add files"), iconButton("close", "Close", () => box.close(), "tool close")),
    zone, status, list);
  box.showModal();
}

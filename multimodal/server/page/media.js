// Files to search with: dropped, pasted or picked.

import { byId, toast } from "./dom.js";

const MOST_BYTES = 20_000_000; // as base64 just below the server's limit of a request
const SHRINK_BYTES = 2_000_000, SHRINK_SIDE = 1600;

/**
 * What a file is by its type, or by its name where the system does not know the type.
 * @param {File} file
 * @returns {"image" | "audio" | null}
 */
export function kindOf(file) {
  if (file.type.startsWith("image/")) return "image";
  if (file.type.startsWith("audio/")) return "audio";
  if (/\.(flac|wav|mp3|ogg|opus|m4a|aac)$/i.test(file.name)) return "audio";
  return /\.(jpe?g|png|webp|gif|avif|heic|bmp|tiff?)$/i.test(file.name) ? "image" : null;
}

/**
 * A file as it is sent: images of some megabytes are made smaller first, which no encoder sees.
 * @param {File} file
 * @returns {Promise<Blob>}
 */
export async function prepare(file) {
  if (kindOf(file) !== "image" || file.size <= SHRINK_BYTES) return file;
  try {
    const bitmap = await createImageBitmap(file), scale = Math.min(1, SHRINK_SIDE / Math.max(bitmap.width, bitmap.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.round(bitmap.width * scale);
    canvas.height = Math.round(bitmap.height * scale);
    canvas.getContext("2d")?.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    return await new Promise((resolve) => canvas.toBlob((blob) => resolve(blob ?? file), "image/jpeg", 0.92));
  } catch {
    return file; // a format that the browser does not read may be one that the server reads
  }
}

/**
 * @param {(file: Blob, name: string, kind: "image" | "audio") => void} use
 */
export function listen(use) {
  const drop = byId("drop"), picker = /** @type {HTMLInputElement} */ (byId("file"));
  let depth = 0;
  const take = async (/** @type {File | undefined} */ file) => {
    if (!file) return;
    const kind = kindOf(file);
    if (!kind) return toast(`${file.name || "This file"} is neither an image nor audio`, true);
    const prepared = await prepare(file);
    if (prepared.size > MOST_BYTES) return toast(`${file.name} is larger than 20 MB`, true);
    use(prepared, file.name || (kind === "image" ? "pasted image" : "pasted audio"), kind);
  };
  const hasFile = (/** @type {DragEvent} */ event) =>
    event.dataTransfer?.types.includes("Files") && !document.querySelector("dialog[open]");
  addEventListener("dragenter", (event) => {
    if (!hasFile(event)) return;
    event.preventDefault();
    depth++;
    drop.hidden = false;
  });
  addEventListener("dragover", (event) => {
    if (event.dataTransfer?.types.includes("Files")) event.preventDefault(); // else the browser would open the file
  });
  addEventListener("dragleave", (event) => {
    if (hasFile(event) && --depth <= 0) drop.hidden = true;
  });
  addEventListener("drop", (event) => {
    depth = 0;
    drop.hidden = true;
    if (!event.dataTransfer?.files.length) return;
    event.preventDefault();
    if (hasFile(event)) void take(event.dataTransfer.files[0]);
  });
  addEventListener("paste", (event) => {
    const file = event.clipboardData?.files[0];
    if (!file) return;
    event.preventDefault();
    void take(file);
  });
  byId("attach").addEventListener("click", () => picker.click());
  picker.addEventListener("change", () => {
    void take(picker.files?.[0]);
    picker.value = "";
  });
}

// Files that were searched with. The address holds a key; the file itself stays in this browser, in IndexedDB, so that
// Back and reload find it again. It is sent only to the server of this page.

const DATABASE = "multimodal", TABLE = "files", MOST = 50;

/** @typedef {{key: string, name: string, kind: "image" | "audio", uri: string, time: number}} Kept */

/** @type {Map<string, Kept>} */
const known = new Map();

/** @returns {Promise<IDBDatabase>} */
function open() {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "key" });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

/**
 * @template T
 * @param {IDBTransactionMode} mode
 * @param {(table: IDBObjectStore) => IDBRequest<T>} run
 * @returns {Promise<T>}
 */
async function transact(mode, run) {
  const database = await open();
  try {
    return await new Promise((resolve, reject) => {
      const request = run(database.transaction(TABLE, mode).objectStore(TABLE));
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error);
    });
  } finally {
    database.close();
  }
}

/**
 * Keeps a file and returns its key.
 * @param {Blob} file
 * @param {string} name
 * @param {"image" | "audio"} kind
 */
export async function keep(file, name, kind) {
  const key = Math.random().toString(36).slice(2, 12);
  const entry = { key, name, kind, uri: await dataUri(file), time: Date.now() };
  known.set(key, entry);
  try {
    await transact("readwrite", (table) => table.put(entry));
    const all = /** @type {Kept[]} */ (await transact("readonly", (table) => table.getAll()));
    for (const old of all.sort((a, b) => b.time - a.time).slice(MOST)) {
      await transact("readwrite", (table) => table.delete(old.key));
    }
  } catch {
    // Without storage, as in some private windows, the file lasts until the page is reloaded.
  }
  return key;
}

/**
 * A kept file, or null if this browser does not have it.
 * @param {string} key
 * @returns {Promise<Kept | null>}
 */
export async function find(key) {
  if (!known.has(key)) {
    try {
      const entry = await transact("readonly", (table) => table.get(key));
      if (entry) known.set(key, entry);
    } catch {
      return null;
    }
  }
  return known.get(key) ?? null;
}

/**
 * @param {Blob} file
 * @returns {Promise<string>}
 */
function dataUri(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

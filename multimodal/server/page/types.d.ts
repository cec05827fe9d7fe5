// Types that several modules share. The browser never loads this file.

export type Scalar = string | number | boolean | null;

/** A part of a query: a text, an item of the index, or the key of a file that the browser keeps (see store.js). */
export type Part = { kind: "text" | "item" | "file"; value: string; weight: number };

/** Everything that the address of the page records. */
export type State = {
  /** Name of the index; "" for the first. */
  index: string;
  /** Text in the search field. */
  q: string;
  /** Parts of the query beside that text. */
  parts: Part[];
  /** Selected modalities; empty for all. */
  modality: string[];
  /** Metadata key -> accepted values. */
  where: Record<string, Scalar[]>;
  /** Minimum probability; 0 for all. */
  least: number;
  /** Id of the item that is open; "" for none. */
  item: string;
  view: "grid" | "map";
};

/** An item of the index; as a hit, with its cosine and its probability. */
export type Item = {
  id: string;
  uri: string | null;
  modality: string;
  text: string | null;
  metadata: Record<string, Scalar>;
  start_s: number | null;
  end_s: number | null;
  start_char?: number | null;
  end_char?: number | null;
  score?: number;
  probability?: number | null;
};

/** total: of all pages; null where only the pages themselves show how many there are. */
export type Page = { items: Item[]; total: number | null; note: string; ms: number };

export type IndexInfo = { name: string; items: number; modalities: string[]; model: string; write: boolean };
export type Config = { version: string; indexes: IndexInfo[]; captions: boolean; drawing: boolean };

export type ValueCount = { value: Scalar; count: number };
export type KeyCounts = { key: string; distinct: number; values: ValueCount[] };
export type Facets = { total: number; matching: number; modalities: Record<string, number>; keys: KeyCounts[] };

export type Point = { x: number; y: number; id: string; modality: string; label: string };
export type PointMap = { method: string; total: number; points: Point[]; notes: string[] };

export type Upload = { name: string; ok: boolean; reason: string };

/** A part of an answer and the item that it is from. */
export interface Citation {
  id: string;
  title: string;
  /** The words of the item; empty where it has none. */
  quote: string;
}

export interface Answer {
  text: string;
  citations: Citation[];
  refused: boolean;
  model: string;
  /** The number of citations that no source supports. */
  removed: number;
}

/** Parts of the page that are loaded at first use. */
export interface Loaded {
  answer?: typeof import("./answer.js");
  detail?: typeof import("./detail.js");
  drawing?: typeof import("./drawing.js");
  help?: typeof import("./help.js");
  map?: typeof import("./map.js");
  microphone?: typeof import("./microphone.js");
  upload?: typeof import("./upload.js");
}

export type ItemMap = import("./map.js").ItemMap;

export interface Recording {
  /** Ends the recording and returns it as WAV. */
  stop: () => Promise<Blob>;
  cancel: () => void;
}

// Types that several modules share. The browser never loads this file.

export type Modality = "text" | "image" | "audio";

/** An item of the index, as index.json lists it. */
export type Item = {
  name: string;
  modality: string;
  text?: string;
  /** Which part of a document it is, such as "0:08–0:18". */
  place?: string;
  metadata?: Record<string, string | number | boolean | null>;
  /** Where the hit starts in its file, in seconds. */
  start_s?: number;
  /** Address of a small image, relative to the page. */
  thumb?: string;
  /** Address of the file, relative to the page or absolute. */
  media?: string;
  /** Heights of the bars of a waveform, 0 to 1. */
  peaks?: number[];
};

export type Coefficients = { same: [number, number]; cross: [number, number] };

export type Calibration = {
  coefficients: Coefficients;
  /** Standard deviation of the cosines of unrelated pairs: modality of the query -> modality of the row. */
  background: Record<string, Record<string, number>>;
  /** Numbers of the rows that stand for a modality; null for all of them. */
  sample: Record<string, number[] | null>;
};

/** Effects of characters that are not themselves; see tokenizer.js. */
export type Characters = { removed: number[]; spaces: number[]; apart: number[]; folded: Record<string, string> };
/** tokens: a line each. */
export type Vocabulary = { tokens: string; unknown: string; characters: Characters };

export type PageIndex = {
  format: number;
  title: string;
  model: string;
  dim: number;
  towers: Modality[];
  vectors: "float32" | "float16" | "int8";
  modalities: Record<string, number>;
  calibration: Calibration;
  items: Item[];
};

export type Query =
  | { kind: "text"; text: string }
  | { kind: "image"; pixels: Uint8ClampedArray; width: number; height: number }
  | { kind: "audio"; samples: Float32Array; rate: number }
  | { kind: "row"; row: number };

/** A hit: the number of its row, its cosine, and its probability, or null where there is none. */
export type Hit = { row: number; score: number; probability: number | null };
export type Result = { hits: Hit[]; total: number; mixed: boolean; vector: Float32Array; ms: number };

export type Request = { id: number; query: Query; modalities: string[]; k: number };
export type Reply = { id: number; result?: Result; error?: string };

/** What the address of the page records. */
export type State = { q: string; like: number | null; item: number | null; modalities: string[] };

export type Tensor = { shape: number[]; data: Float32Array | Uint16Array };

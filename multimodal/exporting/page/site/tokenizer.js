// Words and parts of words of a text, as the tokenizer of the model divides it.
//
// What becomes of a character (lower case, without accents, removed, a space, a word by itself) was asked of that
// tokenizer for every code point when the page was made, so that no version of Unicode in a browser can differ.

/** @import { Vocabulary } from "./types.d.ts" */

const MOST_LETTERS = 100; // of a word; a longer one is unknown

export class Tokenizer {
  /** @param {Vocabulary} vocabulary */
  constructor({ tokens: lines, unknown, characters }) {
    const tokens = lines.split("\n");
    this.ids = new Map(tokens.map((token, id) => [token, id]));
    this.letters = new Set(tokens.join(""));
    this.longest = Math.max(...tokens.map((token) => token.length));
    this.unknown = unknown;
    this.characters = characters;
    /** @type {Map<string, string>} */
    this.folded = new Map();
    for (const [effect, folded] of Object.entries(characters.folded)) for (const character of folded) this.folded.set(character, effect);
    /** @type {Map<string, string>} */
    this.known = new Map();
  }

  /**
   * The numbers of the tokens of a text; token 0, unknown, if it has none.
   * @param {string} text
   * @returns {number[]}
   */
  tokens(text) {
    let line = "";
    for (const character of text) line += this.effect(character);
    const tokens = line.split(" ").flatMap((word) => (word ? this.pieces(word) : []));
    return tokens.length ? tokens : [0];
  }

  /**
   * What a character becomes.
   * @param {string} character
   */
  effect(character) {
    let effect = this.known.get(character);
    if (effect === undefined) this.known.set(character, effect = this.find(character));
    return effect;
  }

  /** @param {string} character */
  find(character) {
    const folded = this.folded.get(character), code = character.codePointAt(0) ?? 0;
    if (folded !== undefined) return folded;
    if (code >= 0xd800 && code < 0xe000) return ""; // half of a pair
    const { removed, spaces, apart } = this.characters;
    if (within(removed, code)) return "";
    if (within(spaces, code)) return " ";
    if (within(apart, code)) return ` ${this.unknown} `;
    return this.letters.has(character) ? character : this.unknown;
  }

  /**
   * The longest token that a word starts with, then the longest that the rest starts with, and so on.
   * @param {string} word
   * @returns {number[]}
   */
  pieces(word) {
    if (word.length > MOST_LETTERS || word.includes(this.unknown)) return [0];
    const pieces = [];
    for (let start = 0; start < word.length;) {
      let stop = Math.min(word.length, start + this.longest), id;
      for (; stop > start; stop--) {
        id = this.ids.get((start ? "##" : "") + word.slice(start, stop));
        if (id !== undefined) break;
      }
      if (id === undefined) return [0];
      pieces.push(id);
      start = stop;
    }
    return pieces;
  }
}

/**
 * Whether a number is in one of the ranges [first, last, first, last, …], which are in order.
 * @param {number[]} ranges
 * @param {number} code
 */
function within(ranges, code) {
  let low = 0, high = ranges.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ranges[middle] < code) low = middle + 1;
    else high = middle;
  }
  return ranges[low] === code || low % 2 === 1;
}

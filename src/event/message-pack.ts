import { isUtf8 } from "node:buffer";
// Not the package's main entry: that one decodes strings in a native add-on, which damaged bytes should never reach.
import { Packr } from "msgpackr/pack";
import { RecordProblem } from "./record-error.ts";

/** Unknown fields of a later version may nest; nothing of ours is deeper than 2. */
const MAX_DEPTH = 8;

const packr = new Packr({
  useRecords: false,
  // Decoded as Map: a field named __proto__ is then a key like any other.
  mapsAsObjects: false,
  int64AsType: "bigint",
  // The shortest form of every map, so that equal values are equal bytes.
  variableMapSize: true,
});

/** The result is valid until the next call. */
export function packMap(fields: Readonly<Record<string, unknown>>): Uint8Array {
  return packr.pack(fields);
}

/**
 * Decodes one map with text keys. msgpackr alone must not see foreign bytes: its extensions define record structures by
 * `new Function`, compile regular expressions and look up classes, and it allocates arrays of whatever length the input
 * claims. So the bytes are walked first, and only plain, complete, bounded MessagePack passes.
 *
 * @throws RecordProblem
 */
export function unpackMap(data: Uint8Array): ReadonlyMap<string, unknown> {
  const walk = new MessagePackWalk(data);
  const fields = walk.topLevelMap();
  const map: unknown = packr.unpack(data);
  if (!(map instanceof Map)) throw new RecordProblem("the body does not begin with a map");
  if (map.size !== fields) throw new RecordProblem("a field of the map is there twice");
  return map as ReadonlyMap<string, unknown>;
}

type Shape = "scalar" | "text" | "array" | "map";

/** Walks over the bytes without building anything: time and memory are bounded by their number. */
class MessagePackWalk {
  readonly #data: Uint8Array;
  readonly #view: DataView;
  #at = 0;

  constructor(data: Uint8Array) {
    this.#data = data;
    this.#view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  }

  /** Number of fields. */
  topLevelMap(): number {
    const token = this.#data[0];
    const isMap = token !== undefined && ((token & 0xf0) === 0x80 || token === 0xde || token === 0xdf);
    if (!isMap) throw new RecordProblem("the body does not begin with a map");
    const fields = this.#value(0).count;
    if (this.#at !== this.#data.length) {
      throw new RecordProblem(`the map ends at byte ${this.#at}, its length is given as ${this.#data.length}`);
    }
    return fields;
  }

  #value(depth: number): { shape: Shape; count: number } {
    if (depth > MAX_DEPTH) throw new RecordProblem(`the map is nested more than ${MAX_DEPTH} deep`);
    const { shape, count } = this.#token();
    if (shape === "array") for (let i = 0; i < count; i += 1) this.#value(depth + 1);
    if (shape === "map") {
      for (let i = 0; i < count; i += 1) {
        if (this.#value(depth + 1).shape !== "text") throw new RecordProblem("a field's name is not text");
        this.#value(depth + 1);
      }
    }
    return { shape, count };
  }

  /** Reads a token and the bytes that belong to it; of arrays and maps the count only. */
  #token(): { shape: Shape; count: number } {
    const token = this.#unsigned(1);
    if (token < 0x80 || token >= 0xe0) return SCALAR;
    if (token < 0x90) return this.#counted("map", token & 0x0f);
    if (token < 0xa0) return this.#counted("array", token & 0x0f);
    if (token < 0xc0) return this.#text(token & 0x1f);
    const fixed = SCALAR_BYTES[token];
    if (fixed !== undefined) return this.#skip(fixed);
    if (token >= 0xc4 && token <= 0xc6) return this.#skip(this.#unsigned(1 << (token - 0xc4)));
    if (token >= 0xd9 && token <= 0xdb) return this.#text(this.#unsigned(1 << (token - 0xd9)));
    if (token === 0xdc || token === 0xdd) return this.#counted("array", this.#unsigned(token === 0xdc ? 2 : 4));
    if (token === 0xde || token === 0xdf) return this.#counted("map", this.#unsigned(token === 0xde ? 2 : 4));
    throw new RecordProblem(`0x${token.toString(16)} at byte ${this.#at - 1} of the map is not allowed`);
  }

  /** Every element takes a byte at least, so a count beyond what is left is a lie. */
  #counted(shape: "array" | "map", count: number): { shape: Shape; count: number } {
    this.#need(shape === "map" ? count * 2 : count);
    return { shape, count };
  }

  #text(bytes: number): { shape: Shape; count: number } {
    this.#need(bytes);
    if (!isUtf8(this.#data.subarray(this.#at, this.#at + bytes))) {
      throw new RecordProblem(`the text at byte ${this.#at} of the map is not UTF-8`);
    }
    this.#at += bytes;
    return TEXT;
  }

  #skip(bytes: number): { shape: Shape; count: number } {
    this.#need(bytes);
    this.#at += bytes;
    return SCALAR;
  }

  #unsigned(bytes: number): number {
    this.#need(bytes);
    const at = this.#at;
    this.#at += bytes;
    if (bytes === 1) return this.#view.getUint8(at);
    return bytes === 2 ? this.#view.getUint16(at) : this.#view.getUint32(at);
  }

  #need(bytes: number): void {
    if (bytes > this.#data.length - this.#at) {
      throw new RecordProblem(
        `the map ends in the middle: ${bytes} bytes more at byte ${this.#at} of ${this.#data.length}`,
      );
    }
  }
}

const SCALAR: { shape: Shape; count: number } = { shape: "scalar", count: 0 };
const TEXT: { shape: Shape; count: number } = { shape: "text", count: 0 };

/** Bytes after the token: nil, false, true, floats, integers. What is missing (0xc1, extensions) is refused. */
const SCALAR_BYTES: Readonly<Record<number, number>> = {
  0xc0: 0,
  0xc2: 0,
  0xc3: 0,
  0xca: 4,
  0xcb: 8,
  0xcc: 1,
  0xcd: 2,
  0xce: 4,
  0xcf: 8,
  0xd0: 1,
  0xd1: 2,
  0xd2: 4,
  0xd3: 8,
};

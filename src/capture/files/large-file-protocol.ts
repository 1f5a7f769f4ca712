import type { PackedBody } from "../../event/codec.ts";
import type { ByteString } from "../../event/tree-path.ts";

/** A piece of a large file. */
export interface LargeChunk {
  readonly id: ByteString;
  readonly size: number;
  /** Its record, but for the header. */
  readonly body: PackedBody;
}

/** To the thread: begin to read the first `size` bytes of an open file, or go on. */
export type ToReader =
  | {
      readonly type: "begin";
      readonly id: number;
      readonly fd: number;
      readonly size: number;
      /** Names chunks with it. */
      readonly nameKey: Uint8Array | undefined;
      /** Also wanted: SHA-256 of the first so many bytes. */
      readonly prefix: number;
    }
  | { readonly type: "more"; readonly id: number }
  | { readonly type: "end"; readonly id: number };

/** From the thread: one answer to each `more`. */
export interface FromReader {
  readonly id: number;
  readonly chunks: readonly LargeChunk[];
  /** With the last ones. */
  readonly end?: { readonly hash: Uint8Array; readonly prefixHash: Uint8Array | undefined };
  /** The file is shorter than it was. */
  readonly short?: true;
  readonly error?: { readonly code: string; readonly message: string };
}

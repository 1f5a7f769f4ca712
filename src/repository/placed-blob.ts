import fs from "node:fs";

import { RecordProblem } from "../event/record-error.ts";
import { errnoOf } from "../runtime/errors.ts";
import { giveBack } from "../runtime/give-back.ts";
import { readUpTo } from "../sqlite/write-fully.ts";
import { decodeEnvelopeHead, openEnvelope } from "./envelope.ts";
import { NewerObject } from "./object-error.ts";
import type { ObjectKind } from "./sealer.ts";

/** Where a sealed blob lies that needs no key. */
export interface PlacedBlob {
  readonly kind: ObjectKind;
  readonly file: string;
  readonly position: number;
  readonly storedBytes: number;
  /** As its listing says. */
  readonly rawBytes: number;
}

// Whatever took an object's place, nobody waits for its other end.
const READ = fs.constants.O_RDONLY | fs.constants.O_NONBLOCK;

/** Reads blobs where they lie, again and again into the same memory. Of one thread. */
export class PlacedReader implements Disposable {
  #memory = Buffer.alloc(0);
  #open: { readonly file: string; readonly fd: number } | undefined;

  /**
   * What is in each, unproved, for `use`, which must not keep it. Undefined: it cannot be read, or is not what should be
   * there, which `BlobStore.read` tells in words.
   */
  read<T>(blobs: readonly PlacedBlob[], use: (raws: readonly (Uint8Array | undefined)[]) => T): T {
    const raws = this.#stored(blobs).map((stored, at) => stored && openUnproved(blobs[at] as PlacedBlob, stored));
    try {
      return use(raws);
    } finally {
      for (const raw of raws) if (raw && raw.buffer !== this.#memory.buffer) giveBack(raw.buffer);
    }
  }

  [Symbol.dispose](): void {
    if (this.#open) fs.closeSync(this.#open.fd);
    this.#open = undefined;
  }

  /** Neighbours come with one call. */
  #stored(blobs: readonly PlacedBlob[]): (Uint8Array | undefined)[] {
    const bytes = blobs.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
    if (this.#memory.length < bytes) this.#memory = Buffer.allocUnsafeSlow(bytes);
    let free = 0;
    return neighbours(blobs).flatMap((together) => {
      const run = this.#memory.subarray(
        free,
        (free += together.reduce((sum, { storedBytes }) => sum + storedBytes, 0)),
      );
      const isThere = this.#fill(run, together[0] as PlacedBlob);
      let at = 0;
      return together.map(({ storedBytes }) => {
        const stored = run.subarray(at, (at += storedBytes));
        return isThere ? stored : undefined;
      });
    });
  }

  /** @throws what cannot be the file's fault */
  #fill(memory: Uint8Array, { file, position }: PlacedBlob): boolean {
    try {
      return readUpTo(this.#descriptor(file), memory, position) === memory.length;
    } catch (error) {
      if (errnoOf(error) === undefined) throw error;
      return false;
    }
  }

  #descriptor(file: string): number {
    if (this.#open?.file === file) return this.#open.fd;
    this[Symbol.dispose]();
    this.#open = { file, fd: fs.openSync(file, READ) };
    return this.#open.fd;
  }
}

/** Those that lie one behind the other. */
function neighbours(blobs: readonly PlacedBlob[]): readonly (readonly PlacedBlob[])[] {
  const groups: PlacedBlob[][] = [];
  let last: PlacedBlob | undefined;
  for (const blob of blobs) {
    const isNext = last?.file === blob.file && last.position + last.storedBytes === blob.position;
    if (isNext) groups.at(-1)?.push(blob);
    else groups.push([blob]);
    last = blob;
  }
  return groups;
}

function openUnproved({ kind, rawBytes }: PlacedBlob, stored: Uint8Array): Uint8Array | undefined {
  try {
    const head = decodeEnvelopeHead(stored, { kind });
    if (head.keyId || head.rawBytes !== rawBytes) return undefined;
    // Only what is proved needs the name.
    return openEnvelope({ kind, name: "" }, stored, { head, dataKey: undefined, unproved: true });
  } catch (error) {
    if (error instanceof RecordProblem || error instanceof NewerObject) return undefined;
    throw error;
  }
}

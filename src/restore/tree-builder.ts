import fs from "node:fs";
import path from "node:path";

import { contentName } from "../event/chunk-list.ts";
import type { FileChunk, FilePut, LogEvent } from "../event/kinds.ts";
import type { Offset } from "../event/positions.ts";
import { bytesOf } from "../event/tree-path.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { writeFully } from "../sqlite/write-fully.ts";
import { isContent } from "../tree/content-id.ts";
import type { History } from "./history.ts";
import type { BlobReader } from "./plan-base.ts";
import type { Place, TreePlan } from "./tree-plan.ts";

/** Files that are kept open: the chunks of one mostly come one behind the other, those of several may alternate. */
const OPEN_FILES = 64;
const { O_WRONLY, O_CREAT } = fs.constants;

export interface TreeBuilderOptions {
  readonly history: Pick<History, "nameKeys">;
  /** Where contents are that events do not carry; undefined: all of them do. */
  readonly blobs: BlobReader | undefined;
  readonly signal: AbortSignal;
}

/**
 * Writes the contents of a plan's files as the records and blobs come by that carry them. Each is a number in one directory for
 * now, so no name that the log tells is used before all contents are there and proved.
 */
export class TreeBuilder implements Disposable {
  readonly #plan: TreePlan;
  readonly #directory: string;
  readonly #options: TreeBuilderOptions;
  /** By item, the one that was used last at the end. */
  readonly #open = new Map<number, number>();

  constructor(plan: TreePlan, directory: string, options: TreeBuilderOptions) {
    this.#options = options;
    this.#plan = plan;
    this.#directory = directory;
    // An earlier restore may have been killed.
    fs.mkdirSync(directory, { mode: 0o700, recursive: true });
  }

  /**
   * @throws RECORD_INVALID when a record's content is not the one that it names, or it has none; what reading blobs throws
   */
  async take({ offset, body }: LogEvent): Promise<void> {
    if (body.kind !== "file.chunk" && body.kind !== "file.put") return;
    const places = this.#plan.placesOf(offset);
    if (places.length === 0) return;
    const { history, blobs, signal } = this.#options;
    // The log may have lost the record since the plan was made: then the event comes from a segment, the content from a pack.
    const data =
      body.data?.length || !blobs
        ? provedContent(offset, body, history.nameKeys)
        : await blobs.read(bytesOf(contentName(body)), signal);
    for (const place of places) this.#write(place, data, `offset ${offset}`);
  }

  /** `data` was proved to be the content of that name. @throws RECORD_INVALID when it has another length than a file says */
  takeBlob(blob: Buffer, data: Uint8Array): void {
    for (const place of this.#plan.placesOfBlob(blob)) this.#write(place, data, `blob ${blob.toString("hex")}`);
  }

  [Symbol.dispose](): void {
    for (const fd of this.#open.values()) fs.closeSync(fd);
    this.#open.clear();
  }

  #write({ item, position, bytes }: Place, data: Uint8Array, from: string): void {
    if (data.length !== bytes) throw notAsNamed(from, `its content has ${data.length} bytes, a file says ${bytes}`);
    // Left out it reads as zeros and takes no room; the file gets its size at the end.
    if (!isZero(data)) writeFully(this.#descriptor(item), data, position);
  }

  #descriptor(item: number): number {
    const known = this.#open.get(item);
    const fd = known ?? fs.openSync(stagedFile(this.#directory, item), O_WRONLY | O_CREAT, 0o600);
    this.#open.delete(item);
    this.#open.set(item, fd);
    if (this.#open.size > OPEN_FILES) this.#closeOldest();
    return fd;
  }

  #closeOldest(): void {
    for (const [item, fd] of this.#open) {
      this.#open.delete(item);
      return fs.closeSync(fd);
    }
  }
}

/** Where the content of an item lies until it gets its name. */
export function stagedFile(directory: string, item: number): string {
  return path.join(directory, String(item));
}

function provedContent(at: Offset, body: FileChunk | FilePut, nameKeys: readonly Uint8Array[]): Uint8Array {
  const { data } = body;
  if (!data) throw notAsNamed(`offset ${at}`, "it carries no content");
  if (isContent(contentName(body), data, nameKeys)) return data;
  throw notAsNamed(`offset ${at}`, "its content does not have the hash that it is named by");
}

function isZero(data: Uint8Array): boolean {
  return data[0] === 0 && data.every((byte) => byte === 0);
}

function notAsNamed(where: string, what: string): TidemarkError {
  return new TidemarkError("RECORD_INVALID", `${where}: ${what}`, {
    hint: "What was read is damaged, or its writer is at fault. Points before it can be restored.",
  });
}

import { crashPoint } from "../runtime/crash-point.ts";
import { freeBlob } from "./blob-copies.ts";
import type { FetchedState } from "./fetched-state.ts";
import { requireGoingOn } from "./history.ts";
import type { BlobReader } from "./plan-base.ts";
import type { TreeBuilder } from "./tree-builder.ts";
import type { TreePlan } from "./tree-plan.ts";

/** What is fetched is noted after so many bytes, or so many contents. */
const NOTE_BYTES = 32 * 1024 * 1024;
const NOTE_CONTENTS = 500;

export interface FillTreesOptions {
  readonly blobs: BlobReader;
  readonly fetched: FetchedState;
  readonly signal: AbortSignal;
  readonly onBytes: (bytes: number) => void;
}

/** Writes the contents of files that a repository has. */
export async function fillTrees(contents: TreeBuilder, plan: TreePlan, options: FillTreesOptions): Promise<void> {
  const { blobs, fetched, signal, onBytes } = options;
  const done = fetched.contents;
  const names: Buffer[] = [];
  let count = 0;
  let noted = { count: done, bytes: 0 };
  let bytes = 0;
  const ahead = function* (): Generator<Buffer> {
    for (const name of plan.blobs()) {
      count += 1;
      if (count <= done) continue;
      names.push(name);
      yield name;
    }
  };
  let written = done;
  for await (const data of blobs.readMany(ahead(), signal)) {
    requireGoingOn(signal);
    contents.takeBlob(names.shift() ?? Buffer.alloc(0), data);
    written += 1;
    bytes += data.length;
    onBytes(data.length);
    freeBlob(data);
    if (bytes - noted.bytes < NOTE_BYTES && written - noted.count < NOTE_CONTENTS) continue;
    fetched.contents = written;
    noted = { count: written, bytes };
    crashPoint("restore: contents fetched");
  }
  requireGoingOn(signal);
  fetched.contents = written;
}

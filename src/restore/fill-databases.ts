import type { Offset } from "../event/positions.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import { invariant } from "../runtime/invariant.ts";
import type { DatabaseBuilder } from "./database-builder.ts";
import type { FetchedState } from "./fetched-state.ts";
import { requireGoingOn } from "./history.ts";
import type { ReadManyOptions } from "../repository/blob-store.ts";
import type { TablePatch } from "../repository/base.ts";
import { PageWriter } from "./page-writer.ts";
import type { BaseDatabase, BlobReader } from "./plan-base.ts";

const EXTENT_BYTES = 256 * 1024;
const EXTENTS_PER_BLOCK = 256;

export interface FillOptions {
  readonly blobs: BlobReader;
  /** Of the base. */
  readonly offset: Offset;
  readonly fetched: FetchedState;
  readonly signal: AbortSignal;
  /** Of the databases, not of the repository. */
  readonly onBytes: (bytes: number) => void;
}

/** What is to be done, in order; those with a blob wait for it. */
type Step =
  | { readonly kind: "extent"; readonly builder: DatabaseBuilder; readonly firstPage: number }
  | { readonly kind: "patch"; readonly builder: DatabaseBuilder; readonly patch: TablePatch }
  | { readonly kind: "zeros"; readonly builder: DatabaseBuilder; readonly firstPage: number }
  | { readonly kind: "block"; readonly builder: DatabaseBuilder; readonly base: BaseDatabase; readonly block: number };

/**
 * Writes the pages of a base into the files of those databases that begin with it, and proves the checksum of each, which
 * the seals of what was read need not do before: only when a checksum is wrong they tell what is damaged, or lead to
 * another copy. @throws CHECKSUM_MISMATCH, INTERRUPTED, what reading throws
 */
export async function fillDatabases(builders: Iterable<DatabaseBuilder>, options: FillOptions): Promise<void> {
  const filled = [...builders].filter(({ plan }) => plan.base);
  await fill(filled, options, { unproved: true });
  const wrong = filled.filter((builder) => !builder.isBase);
  for (const builder of wrong) {
    const { name, sizePages, pageSize } = builder.plan.base as BaseDatabase;
    options.fetched.forget(name);
    builder.clear();
    options.onBytes(-sizePages * pageSize);
  }
  await fill(wrong, options);
  for (const builder of wrong) builder.proveBase(options.offset);
}

async function fill(
  builders: readonly DatabaseBuilder[],
  options: FillOptions,
  how: ReadManyOptions = {},
): Promise<void> {
  const steps: Step[] = [];
  await using writer = new PageWriter(
    builders.reduce((sum, { plan }) => sum + (plan.base?.sizePages ?? 0) * plan.pageSize, 0),
  );
  // Names run ahead of contents, past the ends of blocks and of databases: nothing waits for a round trip.
  for await (const data of options.blobs.readMany(namesAhead(builders, steps, options), options.signal, how)) {
    requireGoingOn(options.signal);
    doReady(steps, writer, options);
    const step = steps.shift();
    invariant(step?.kind === "extent" || step?.kind === "patch", "a blob came that nothing waits for");
    step.builder.fill(writer, data, step.kind === "extent" ? step.firstPage : step.patch.pages);
    doReady(steps, writer, options);
    await writer.room();
  }
  requireGoingOn(options.signal);
  doReady(steps, writer, options);
  await writer.finish();
  invariant(steps.length === 0, "blobs are missing and nobody said so");
  for (const builder of builders) builder.endBase();
}

async function* namesAhead(
  builders: readonly DatabaseBuilder[],
  steps: Step[],
  { fetched, signal, onBytes }: FillOptions,
): AsyncGenerator<Uint8Array> {
  for (const builder of builders) {
    const { base } = builder.plan;
    if (!base) continue;
    builder.takeOver(fetched.pageHashes(base.name));
    for (let block = 0; block < base.blockCount; block += 1) {
      if (fetched.hasBlock(base.name, block)) onBytes(blockBytes(base, block));
      else yield* namesOfBlock({ builder, base, block, steps }, signal);
    }
  }
}

async function* namesOfBlock(
  { builder, base, block, steps }: { builder: DatabaseBuilder; base: BaseDatabase; block: number; steps: Step[] },
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const { extents, patches } = await base.block(block, signal);
  const pagesPerExtent = EXTENT_BYTES / base.pageSize;
  for (const [index, id] of extents.entries()) {
    const firstPage = (block * EXTENTS_PER_BLOCK + index) * pagesPerExtent + 1;
    steps.push({ kind: id ? "extent" : "zeros", builder, firstPage });
    if (id) yield id;
  }
  for (const patch of patches) {
    if (patch.pages.every((page) => page === 0)) continue;
    steps.push({ kind: "patch", builder, patch });
    yield patch.id;
  }
  steps.push({ kind: "block", builder, base, block });
}

/** What need not wait for a blob, but for what is written before it. */
function doReady(steps: Step[], writer: PageWriter, { fetched, onBytes }: FillOptions): void {
  for (let step = steps[0]; step?.kind === "zeros" || step?.kind === "block"; step = steps[0]) {
    steps.shift();
    const { builder } = step;
    if (step.kind === "zeros") {
      const { firstPage } = step;
      writer.after(() => builder.fillZeros(firstPage, EXTENT_BYTES));
      continue;
    }
    const { base, block } = step;
    writer.after(() => {
      fetched.saveBlock(base.name, block, builder.takeHashes());
      onBytes(blockBytes(base, block));
      crashPoint("restore: block fetched");
    });
  }
}

function blockBytes({ pageSize, sizePages }: BaseDatabase, block: number): number {
  const all = EXTENTS_PER_BLOCK * EXTENT_BYTES;
  return Math.min(all, sizePages * pageSize - block * all);
}

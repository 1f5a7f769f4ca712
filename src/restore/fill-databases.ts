import type { Offset } from "../event/positions.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import { invariant } from "../runtime/invariant.ts";
import type { DatabaseBuilder } from "./database-builder.ts";
import type { FetchedState } from "./fetched-state.ts";
import { requireGoingOn } from "./history.ts";
import type { UnprovedBlob } from "../repository/blob-store.ts";
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

interface BlockOf {
  readonly builder: DatabaseBuilder;
  readonly block: number;
  /** Of the writer. */
  readonly lane: number;
}

/** What is to be done in a block of a database, in order; those with a blob wait for it. Blocks do not wait for each other. */
type Step = BlockOf &
  (
    | { readonly kind: "extent"; readonly firstPage: number }
    | { readonly kind: "patch"; readonly patch: TablePatch }
    | { readonly kind: "zeros"; readonly firstPage: number }
    | { readonly kind: "end"; readonly base: BaseDatabase }
  );

/**
 * Writes the pages of a base into the files of those databases that begin with it, and proves the checksum of each, which
 * the seals of what was read need not do before: only where something cannot be read, or a checksum is wrong, they tell
 * what is damaged, or lead to another copy. @throws CHECKSUM_MISMATCH, INTERRUPTED, what reading throws
 */
export async function fillDatabases(builders: Iterable<DatabaseBuilder>, options: FillOptions): Promise<void> {
  const filled = [...builders].filter(({ plan }) => plan.base);
  const unread = await fill(filled, options, (names) => options.blobs.readUnproved(names, options.signal));
  const proved = async (again: readonly DatabaseBuilder[]): Promise<void> => {
    if (again.length > 0) await fill(again, options, (names) => options.blobs.readMany(names, options.signal));
  };
  for (const builder of unread) takeBackBytes(builder, options);
  await proved([...unread]);
  const wrong = filled.filter((builder) => !builder.isBase);
  for (const builder of wrong) {
    takeBackBytes(builder, options);
    options.fetched.forget(builder.plan.name);
    builder.clear();
  }
  await proved(wrong);
  for (const builder of wrong) builder.proveBase(options.offset);
}

/** What is there already is counted anew. */
function takeBackBytes({ plan: { base } }: DatabaseBuilder, { fetched, onBytes }: FillOptions): void {
  for (let block = 0; base && block < base.blockCount; block += 1) {
    if (fetched.hasBlock(base.name, block)) onBytes(-blockBytes(base, block));
  }
}

/** Returns those of which something could not be read; the blocks that it belongs to do not count as fetched. */
async function fill(
  builders: readonly DatabaseBuilder[],
  options: FillOptions,
  read: (names: AsyncGenerator<Uint8Array>) => AsyncGenerator<UnprovedBlob, void, void>,
): Promise<ReadonlySet<DatabaseBuilder>> {
  const steps: Step[] = [];
  const todo: Todo = { steps, unread: new Map() };
  await using writer = new PageWriter(
    builders.reduce((sum, { plan }) => sum + (plan.base?.sizePages ?? 0) * plan.pageSize, 0),
  );
  // Names run ahead of contents, past the ends of blocks and of databases: nothing waits for a round trip.
  for await (const blob of read(namesAhead(builders, steps, options))) {
    requireGoingOn(options.signal);
    doReady(todo, writer, options);
    const step = steps.shift();
    invariant(step?.kind === "extent" || step?.kind === "patch", "a blob came that nothing waits for");
    const { builder, block, lane } = step;
    const pages = step.kind === "extent" ? step.firstPage : step.patch.pages;
    builder.fill(writer, { lane, blob, pages }, () => unreadOf(todo, builder).add(block));
    doReady(todo, writer, options);
    await writer.room();
  }
  requireGoingOn(options.signal);
  doReady(todo, writer, options);
  await writer.finish();
  invariant(steps.length === 0, "blobs are missing and nobody said so");
  for (const builder of builders) builder.endBase();
  return new Set(todo.unread.keys());
}

interface Todo {
  readonly steps: Step[];
  /** Blocks of which something could not be read. */
  readonly unread: Map<DatabaseBuilder, Set<number>>;
}

function unreadOf({ unread }: Todo, builder: DatabaseBuilder): Set<number> {
  const blocks = unread.get(builder) ?? new Set();
  unread.set(builder, blocks);
  return blocks;
}

async function* namesAhead(
  builders: readonly DatabaseBuilder[],
  steps: Step[],
  { fetched, signal, onBytes }: FillOptions,
): AsyncGenerator<Uint8Array> {
  for (const [index, builder] of builders.entries()) {
    const { base } = builder.plan;
    if (!base) continue;
    builder.takeOver(fetched.pageHashes(base.name));
    for (let block = 0; block < base.blockCount; block += 1) {
      if (fetched.hasBlock(base.name, block)) onBytes(blockBytes(base, block));
      else yield* namesOfBlock({ of: { builder, block, lane: index + block }, base, steps }, signal);
    }
  }
}

async function* namesOfBlock(
  { of, base, steps }: { readonly of: BlockOf; readonly base: BaseDatabase; readonly steps: Step[] },
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const { block } = of;
  const { extents, patches } = await base.block(block, signal);
  const pagesPerExtent = EXTENT_BYTES / base.pageSize;
  for (const [index, id] of extents.entries()) {
    const firstPage = (block * EXTENTS_PER_BLOCK + index) * pagesPerExtent + 1;
    steps.push({ kind: id ? "extent" : "zeros", ...of, firstPage });
    if (id) yield id;
  }
  for (const patch of patches) {
    if (patch.pages.every((page) => page === 0)) continue;
    steps.push({ kind: "patch", ...of, patch });
    yield patch.id;
  }
  steps.push({ kind: "end", ...of, base });
}

/** What need not wait for a blob, but for what is written before it in its block. */
function doReady(todo: Todo, writer: PageWriter, { fetched, onBytes }: FillOptions): void {
  const { steps, unread } = todo;
  for (let step = steps[0]; step?.kind === "zeros" || step?.kind === "end"; step = steps[0]) {
    steps.shift();
    const { builder, block, lane } = step;
    if (step.kind === "zeros") {
      const { firstPage } = step;
      writer.after(lane, () => builder.fillZeros(firstPage, EXTENT_BYTES));
      continue;
    }
    const { base } = step;
    writer.after(lane, () => {
      if (unread.get(builder)?.has(block)) return;
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

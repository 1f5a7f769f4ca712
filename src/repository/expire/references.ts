import { setImmediate as nextTurn } from "node:timers/promises";

import { bytesOf } from "../../event/tree-path.ts";
import { eachOf } from "../../runtime/each-of.ts";
import type { BaseInfo } from "../base.ts";
import type { BlobUse } from "../blob-use.ts";
import type { Repository } from "../repository.ts";
import { namesIn } from "../segment-summary.ts";
import type { SegmentInfo } from "../segment.ts";
import { decodeTableBlock } from "../table-block.ts";
import { contentsOfList } from "../tree-list.ts";
import { isDamage } from "../verify-report.ts";

/** Heads of segments that are fetched side by side. */
const PARALLEL = 8;

export interface Referring {
  readonly bases: readonly BaseInfo[];
  readonly segments: readonly SegmentInfo[];
}

export interface GatherOptions {
  readonly use: BlobUse;
  /** They stay. What is damaged of those that go needs nothing. */
  readonly kept: boolean;
  readonly signal: AbortSignal;
}

/** Notes every blob that bases and segments refer to. @throws OBJECT_MISSING, OBJECT_CORRUPT, REPOSITORY_VERSION */
export async function gatherReferences(
  repository: Repository,
  { bases, segments }: Referring,
  options: GatherOptions,
): Promise<void> {
  for (const base of bases) await unlessGoing(options, () => ofBase(repository, base, options));
  await eachOf(segments, PARALLEL, (segment) => unlessGoing(options, () => ofSegment(repository, segment, options)));
}

async function unlessGoing({ kept }: GatherOptions, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (kept || !isDamage(error)) throw error;
  }
}

/** A table or a list that several bases have is read once. */
async function ofBase(
  { bases, blobs, objects }: Repository,
  info: BaseInfo,
  { use, kept, signal }: GatherOptions,
): Promise<void> {
  const { databases, trees } = await bases.read(info, signal);
  const fresh = function* (ids: readonly Uint8Array[]): Generator<Uint8Array> {
    for (const id of ids) if (use.need(id, kept)) yield id;
  };
  const tables = databases.flatMap((database) => database.tables);
  for await (const table of blobs.readMany(fresh(tables), signal)) {
    const { extents, patches } = decodeTableBlock(table, `of ${info.name}`);
    for (const id of extents) if (id) use.need(id, kept);
    for (const { id, pages } of patches) if (pages.some((page) => page !== 0)) use.need(id, kept);
    await nextTurn();
  }
  const lists = trees.flatMap((tree) => tree.lists);
  for await (const list of blobs.readMany(fresh(lists), signal)) {
    await objects.within(info.name, () => {
      for (const id of contentsOfList(list)) use.need(id, kept);
    });
    await nextTurn();
  }
}

async function ofSegment(
  { segments }: Repository,
  info: SegmentInfo,
  { use, kept, signal }: GatherOptions,
): Promise<void> {
  const { contents } = await segments.head(info, signal);
  for (const id of contents ?? []) use.need(id, kept);
  if (contents) return;
  for await (const events of segments.read(info, { signal })) {
    for (const { event } of events) for (const id of namesIn(event().body)) use.need(bytesOf(id), kept);
  }
}

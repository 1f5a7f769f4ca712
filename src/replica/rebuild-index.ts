import { offset as toOffset, type Offset } from "../event/positions.ts";
import type { LogEvent } from "../event/kinds.ts";
import { readEvents } from "../log/log-reader.ts";
import { openRecord } from "../log/open-record.ts";
import type { Repository } from "../repository/repository.ts";
import type { SegmentInfo } from "../repository/segment.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import { errnoOf, hasCode, TidemarkError } from "../runtime/errors.ts";
import { PageIndex } from "../sqlite/page-index.ts";
import { indexAsRead } from "./page-check.ts";
import type { KnownDatabase, ProvedIndex, RepairContext } from "./repair-standby.ts";
import { requireGoingOn } from "./standby-errors.ts";
import { storedPageSize } from "./sqlite/stored-page-size.ts";
import { databasePath, type StandbyPaths } from "./standby-paths.ts";
import type { StandbyState } from "./standby-state.ts";
import { WalWriter } from "./sqlite/wal-writer.ts";
import type { Clock } from "../runtime/clock.ts";

/** The stored index, when it adds up and the log, as far as it still tells, says the same. Else undefined. */
export async function loadProvedIndex(context: RepairContext, name: string): Promise<ProvedIndex | undefined> {
  const { state, identity, log } = context;
  let stored;
  try {
    stored = state.indexes.load(name, identity.checksumSeed);
  } catch (error) {
    if (hasCode(error, "INTEGRITY") || errnoOf(error)?.startsWith("SQLITE_CORRUPT")) return undefined;
    throw error;
  }
  const record = stored && (await log.get(stored.offset));
  if (!stored || !record) return stored;
  const { body } = await openRecord(log, record);
  const says = body.kind === "sqlite.commit" && body.database === name ? body.after : undefined;
  return says === stored.index.checksum ? stored : undefined;
}

/**
 * Makes the index anew from the file, and finds in the log, or in a repository, the commit that led to its checksum: both are proved, and how
 * far the file is, is known. @throws INTEGRITY when there is no such commit: then the file is damaged as well
 */
export async function rebuildIndex(context: RepairContext, database: KnownDatabase): Promise<ProvedIndex> {
  const { name, path } = database;
  const { state, identity, log, lookBack, clock, signal } = context;
  const pageSize = storedPageSize(path);
  if (!pageSize) throw hopeless(name, path);
  const index = await indexOfFile(path, new PageIndex(pageSize, identity.checksumSeed), clock);
  const { first } = await log.bounds();
  const storedAt = state.indexes.offsetOf(name) ?? toOffset(0);
  // The file may be further than what was recorded of it, not less far; unless the offset is what was damaged.
  for (const after of new Set([toOffset(Math.max(first, storedAt) - 1), toOffset(first - 1)])) {
    const offset = await findCommit(context, { name, after, index });
    if (offset === undefined) requireGoingOn(signal);
    else return replaceIndex(state, name, { index, offset });
  }
  const offset = await lookBack.first((repository) => archivedCommit(repository, { name, index, signal }));
  if (offset !== undefined) return replaceIndex(state, name, { index, offset });
  throw hopeless(name, path);
}

function replaceIndex(state: StandbyState, name: string, proved: ProvedIndex): ProvedIndex {
  state.replaceIndex(name, proved.index, proved.offset);
  crashPoint("standby: index rebuilt");
  return proved;
}

/**
 * The first of the databases that is not what was recorded of it: damaged, written by a stranger, or ahead of the position because its
 * replica was killed. Undefined: all are. Nothing of them is open in this process.
 */
export async function firstUnlikeRecorded(
  { indexes }: StandbyState,
  { paths, seed, clock }: { readonly paths: StandbyPaths; readonly seed: bigint; readonly clock: Clock },
): Promise<string | undefined> {
  for (const name of indexes.names()) {
    const path = databasePath(paths, name);
    const stored = indexes.load(name, seed)?.index;
    const pageSize = storedPageSize(path);
    if (!stored || stored.pageSize !== pageSize) return name;
    const found = await indexOfFile(path, new PageIndex(pageSize, seed), clock);
    if (found.checksum !== stored.checksum || found.sizePages !== stored.sizePages) return name;
  }
  return undefined;
}

async function indexOfFile(path: string, index: PageIndex, clock: Clock): Promise<PageIndex> {
  const writer = new WalWriter({ path, pageSize: index.pageSize, clock });
  try {
    return await indexAsRead(writer, index);
  } finally {
    writer.close();
  }
}

async function findCommit(
  { log, signal }: RepairContext,
  wanted: { readonly name: string; readonly after: Offset; readonly index: PageIndex },
): Promise<Offset | undefined> {
  const { after } = wanted;
  for await (const events of readEvents(log, { after, follow: false, signal })) {
    for (const { offset, body } of events) {
      if (isCommitOf(body, wanted)) return offset;
    }
  }
  return undefined;
}

interface WantedCommit {
  readonly name: string;
  readonly index: PageIndex;
  readonly signal: AbortSignal;
}

/** The commit of a database that leads to what its index says, among those that bases and segments end with; else any. */
async function archivedCommit(repository: Repository, wanted: WantedCommit): Promise<Offset | undefined> {
  const { name, index, signal } = wanted;
  const leads = (one: { readonly name: string; readonly checksum: bigint; readonly sizePages: number }): boolean =>
    one.name === name && one.checksum === index.checksum && one.sizePages === index.sizePages;
  const base = (await repository.bases.list(signal)).at(-1);
  const inBase = base && (await repository.bases.read(base, signal)).databases.find(leads);
  if (inBase) return inBase.offset;
  const segments: SegmentInfo[] = [];
  for await (const segment of repository.segments.list(signal)) segments.push(segment);
  for (const segment of segments.toReversed()) {
    const { databases } = await repository.segments.head(segment, signal);
    const last = databases.find(leads);
    if (last) return last.offset;
    if (!databases.some((one) => one.name === name)) continue;
    for await (const events of repository.segments.read(segment, { signal })) {
      const found = events.map((one) => one.event()).find(({ body }) => isCommitOf(body, wanted));
      if (found) return found.offset;
    }
  }
  return undefined;
}

function isCommitOf(body: LogEvent["body"], { name, index }: Pick<WantedCommit, "name" | "index">): boolean {
  if (body.kind !== "sqlite.commit" || body.database !== name) return false;
  return body.after === index.checksum && body.sizePages === index.sizePages;
}

function hopeless(name: string, path: string): TidemarkError {
  return new TidemarkError(
    "INTEGRITY",
    `the page index of ${name} is damaged, and the file ${path} is at no commit that the log or a repository holds`,
    { hint: "Check the disk, then build the standby anew with `tidemark replica --reseed`." },
  );
}

import type { LogEvent, PageImage, SqliteCommit } from "../event/kinds.ts";
import { type Offset, offset as toOffset } from "../event/positions.ts";
import type { BaseManifest, ManifestDatabase } from "../repository/base.ts";
import { readBasePages } from "../repository/base-pages.ts";
import type { Repository } from "../repository/repository.ts";
import { readTree } from "../repository/tree-list.ts";
import type { TreeEntry } from "../tree/tree-index.ts";
import { archivedThrough } from "./archived-events.ts";
import type { LookBack } from "./look-back.ts";

/** Pages that are handed over at a time. */
const PART_BYTES = 1024 * 1024;

/** A base with which a standby can begin. */
export interface Seed {
  readonly repository: Repository;
  readonly manifest: BaseManifest;
}

export interface SeedFor {
  readonly logId: string;
  /** What the log holds. */
  readonly bounds: { readonly first: Offset; readonly last: Offset };
  readonly signal: AbortSignal;
}

/** The newest base of this log behind which events lead to what the log holds; undefined: there is none. */
export function findSeed(lookBack: LookBack, { logId, bounds, signal }: SeedFor): Promise<Seed | undefined> {
  return findBase(lookBack, { logId, last: bounds.last, leadsTo: toOffset(bounds.first - 1), signal });
}

export interface BaseFor {
  readonly logId: string;
  /** It is not newer. */
  readonly last: Offset;
  /** Events of the same repository lead from it to here. */
  readonly leadsTo: Offset;
  readonly signal: AbortSignal;
}

/** The newest one; undefined: there is none. */
export function findBase(lookBack: LookBack, { logId, last, leadsTo, signal }: BaseFor): Promise<Seed | undefined> {
  return lookBack.first(async (repository) => {
    const bases = await repository.bases.list(signal);
    const base = bases.findLast((one) => one.offset <= last);
    if (!base) return undefined;
    const manifest = await repository.bases.read(base, signal);
    const leads = (await archivedThrough(repository, base.offset, signal)) >= leadsTo;
    return leads && manifest.logId === logId ? { repository, manifest } : undefined;
  });
}

/** A database of a base as the copy that its primary would have sent. Page images are valid until the next event is asked for. */
export async function* copiesOf(
  { repository, manifest }: Seed,
  signal: AbortSignal,
): AsyncGenerator<LogEvent, void, void> {
  for (const database of manifest.databases) {
    let parts = 0;
    for await (const pages of batches(repository, database, signal)) {
      const { name, pageSize, offset: transaction } = database;
      const body = { kind: "sqlite.part", database: name, transaction, sequence: parts, pageSize, pages } as const;
      yield eventOf(manifest, database, body);
      parts += 1;
    }
    yield eventOf(manifest, database, closing(database, parts));
  }
}

/** What stood in the trees of a base. */
export async function* entriesOf(
  { repository, manifest }: Seed,
  signal: AbortSignal,
): AsyncGenerator<TreeEntry, void, void> {
  for (const tree of manifest.trees) yield* readTree(repository.blobs, tree, signal);
}

async function* batches(
  { blobs }: Repository,
  database: ManifestDatabase,
  signal: AbortSignal,
): AsyncGenerator<readonly PageImage[], void, void> {
  let batch: PageImage[] = [];
  for await (const { pageNumber, data } of readBasePages(blobs, database, { wanted: () => true, signal })) {
    // The image is valid no longer than until the next one.
    batch.push({ pageNumber, data: new Uint8Array(data) });
    if (batch.length * database.pageSize < PART_BYTES) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

function closing({ name, offset, pageSize, sizePages, checksum }: ManifestDatabase, parts: number): SqliteCommit {
  return {
    kind: "sqlite.commit",
    database: name,
    transaction: offset,
    parts,
    cause: "copy",
    commits: 0,
    pageSize,
    sizePages,
    pages: [],
    before: 0n,
    after: checksum,
    wal: { salt1: 0, salt2: 0, frame: 0, checksum1: 0, checksum2: 0 },
  };
}

function eventOf({ epoch, timeMs }: BaseManifest, { offset }: ManifestDatabase, body: LogEvent["body"]): LogEvent {
  return { offset, epoch, timeMs, bytes: 0, body };
}

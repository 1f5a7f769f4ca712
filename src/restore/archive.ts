import type { Offset } from "../event/positions.ts";
import type { BaseManifest, TableBlock } from "../repository/base.ts";
import type { Repository } from "../repository/repository.ts";
import { decodeTableBlock } from "../repository/table-block.ts";
import { TreeListReader } from "../repository/tree-list.ts";
import { TidemarkError } from "../runtime/errors.ts";
import type { TreeEntry } from "../tree/tree-index.ts";
import { ArchiveHistory, type HeldBase } from "./archive-history.ts";
import { BlobCopies, isAway, isOfOneCopy, unlessOfOneCopy } from "./blob-copies.ts";
import type { HeldSegment } from "./held-segments.ts";
import type { LogHistory } from "./log-history.ts";
import type { Archive, BaseDatabase, BlobReader, EventsBack, EventsToRead, PlanBase } from "./plan-base.ts";

export interface OpenArchiveOptions {
  /** One at least; the one that is preferred first. */
  readonly repositories: readonly Repository[];
  readonly log: LogHistory | undefined;
  /** An object is damaged or missing, and something else is taken instead. */
  readonly onDamage: (error: TidemarkError) => void;
  readonly signal: AbortSignal;
}

/** What several repositories of one set hold, and the log's tail behind it. */
export async function openArchive(given: OpenArchiveOptions): Promise<RepositoryArchive> {
  const options = { ...given, onDamage: once(given.onDamage) };
  const { repositories } = options;
  const { segments, bases } = await listed(options);
  const relist = async (): Promise<HeldSegment[]> => (await listed(options)).segments;
  await requireOneLog(options);
  const location = [...repositories.map((one) => one.location), ...(options.log ? [options.log.location] : [])].join(
    ", ",
  );
  // Newest first; sorting keeps the order of those that are equal: the preferred repository's first.
  const sorted = bases.toSorted((one, other) => other.offset - one.offset);
  return new RepositoryArchive(
    new ArchiveHistory({ ...options, location, segments, relist, bases: sorted }),
    sorted,
    options,
  );
}

interface Listed {
  readonly segments: HeldSegment[];
  readonly bases: HeldBase[];
}

/** Of all repositories but those that are away. @throws what keeps the last one from being read */
async function listed({ repositories, onDamage, signal }: OpenArchiveOptions): Promise<Listed> {
  const all: Listed = { segments: [], bases: [] };
  let away: TidemarkError | undefined;
  for (const repository of repositories) {
    try {
      const found = await namesIn(repository, signal);
      all.segments.push(...found.segments);
      all.bases.push(...found.bases);
    } catch (error) {
      if (!isAway(error)) throw error;
      away = error;
      onDamage(error);
    }
  }
  if (away && all.segments.length === 0 && all.bases.length === 0) throw away;
  return all;
}

/** One that is away says the same about each of its objects. */
function once(tell: (error: TidemarkError) => void): (error: TidemarkError) => void {
  const told = new Set<string>();
  return (error) => {
    if (!told.has(error.message)) tell(error);
    told.add(error.message);
  };
}

async function namesIn(repository: Repository, signal: AbortSignal): Promise<Listed> {
  const segments: HeldSegment[] = [];
  for await (const info of repository.segments.list(signal)) segments.push({ ...info, repository, info });
  const bases = (await repository.bases.list(signal)).map((info) => ({ offset: info.offset, repository, info }));
  return { segments, bases };
}

/** @throws REPOSITORY_FOREIGN when they are not about the same log */
async function requireOneLog({ repositories, log, signal }: OpenArchiveOptions): Promise<void> {
  const found = await Promise.all(
    repositories.map(async (one) => ({ location: one.location, logId: await logIdOf(one, signal) })),
  );
  const all = [...found, ...(log ? [{ location: log.location, logId: await log.logId() }] : [])];
  const [first, ...others] = all.filter(({ logId }) => logId !== undefined);
  const other = others.find(({ logId }) => logId !== first?.logId);
  if (!other || !first) return;
  throw new TidemarkError(
    "REPOSITORY_FOREIGN",
    `${first.location} and ${other.location} are of two logs, ${first.logId} and ${other.logId}`,
    {
      hint: "Name what to restore from alone: one with `--repository`, and `--no-log` when it is not to be joined with the log.",
    },
  );
}

/** Undefined: it cannot be told; what is damaged is met again when it is needed. */
async function logIdOf({ segments, bases }: Repository, signal: AbortSignal): Promise<string | undefined> {
  const newest = await unlessOfOneCopy(() => segments.newest(signal));
  if (newest) return newest.logId;
  return unlessOfOneCopy(async () => {
    const base = (await bases.list(signal)).at(-1);
    return base && (await bases.read(base, signal)).logId;
  });
}

export class RepositoryArchive implements Archive {
  readonly history: ArchiveHistory;
  readonly blobs: BlobReader;
  readonly #bases: readonly HeldBase[];
  readonly #onDamage: (error: TidemarkError) => void;
  readonly #repositories: readonly Repository[];
  readonly #avoided = new Set<string>();

  constructor(history: ArchiveHistory, bases: readonly HeldBase[], { repositories, onDamage }: OpenArchiveOptions) {
    this.history = history;
    this.#bases = bases;
    this.#onDamage = onDamage;
    this.#repositories = repositories;
    this.blobs = this.#copies(repositories[0]);
  }

  get through(): Offset {
    return this.history.archivedThrough;
  }

  get back(): EventsBack | undefined {
    return this.history.back;
  }

  reading(range: { readonly after: Offset; readonly through: Offset }): EventsToRead {
    return this.history.reading(range);
  }

  /** Ascending. */
  get baseOffsets(): readonly Offset[] {
    return [...new Set(this.#bases.map(({ offset }) => offset))].toReversed();
  }

  async baseFor(at: Offset): Promise<PlanBase | undefined> {
    const ranges = await this.history.ranges();
    const range = ranges.find(({ first, last }) => first <= at && at <= last);
    let damage: TidemarkError | undefined;
    for (const base of this.#bases) {
      if (base.offset > at || !range || base.offset < range.first || this.#avoided.has(base.info.uuid)) continue;
      try {
        return new ManifestBase(base, await this.history.manifest(base), this.#copies(base.repository));
      } catch (error) {
        if (!isOfOneCopy(error)) throw error;
        this.#onDamage(error);
        damage ??= error;
      }
    }
    if (damage && range?.first !== 1) throw damage;
    return undefined;
  }

  /** Those of one repository, and of the others what it lacks. */
  #copies(preferred: Repository | undefined): BlobReader {
    const ordered = [...this.#repositories].sort(
      (one, other) => Number(other === preferred) - Number(one === preferred),
    );
    return new BlobCopies(
      ordered.map(({ blobs }) => blobs),
      this.#onDamage,
    );
  }

  async avoid({ id, offset: at }: PlanBase, error: TidemarkError): Promise<boolean> {
    this.#avoided.add(id);
    const range = (await this.history.ranges()).find(({ first, last }) => first <= at && at <= last);
    const others = this.#bases.filter((base) => base.offset <= at && base.offset >= (range?.first ?? at));
    const other = range?.first === 1 || others.some(({ info }) => !this.#avoided.has(info.uuid));
    if (other) this.#onDamage(error);
    return other;
  }
}

class ManifestBase implements PlanBase {
  readonly id: string;
  readonly offset: Offset;
  readonly timeMs: number;
  readonly databases: readonly BaseDatabase[];
  readonly trees: readonly string[];
  readonly blobs: BlobReader;
  readonly #manifest: BaseManifest;

  constructor({ info }: HeldBase, manifest: BaseManifest, blobs: BlobReader) {
    this.id = info.uuid;
    this.offset = manifest.offset;
    this.timeMs = manifest.timeMs;
    this.trees = manifest.trees.map(({ name }) => name);
    this.#manifest = manifest;
    this.blobs = blobs;
    this.databases = manifest.databases.map(({ tables, ...database }) => ({
      ...database,
      blockCount: tables.length,
      block: (index, signal) => this.#block(tables[index] ?? new Uint8Array(), signal),
    }));
  }

  async *entries(signal: AbortSignal): AsyncGenerator<TreeEntry> {
    for (const { name, lists } of this.#manifest.trees) {
      const reader = new TreeListReader(name);
      for await (const list of this.blobs.readMany(lists, signal)) yield* reader.entries(list);
    }
  }

  async #block(id: Uint8Array, signal: AbortSignal): Promise<TableBlock> {
    return decodeTableBlock(await this.blobs.read(id, signal));
  }
}

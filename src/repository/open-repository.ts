import { randomUUID } from "node:crypto";

import type { Clock } from "../runtime/clock.ts";
import { hasCode, TidemarkError } from "../runtime/errors.ts";
import { BlobIndex } from "./blob-index.ts";
import { EnvelopeThreads } from "./envelope-threads.ts";
import { decodeConfig, encodeConfig } from "./config-object.ts";
import { locatingObject } from "./object-error.ts";
import { PROBE_PREFIX } from "./object-names.ts";
import { ObjectBaseStore } from "./object-base-store.ts";
import { takeLock } from "./object-lock.ts";
import { ObjectSegmentStore } from "./object-segment-store.ts";
import { CONFIG_OBJECT, objectMissing, type ObjectStore } from "./object-store.ts";
import { PackBlobStore } from "./pack-blob-store.ts";
import { plainSealer } from "./plain-sealer.ts";
import type { LockMode, Repository, RepositoryConfig, RepositoryLock } from "./repository.ts";
import { SealedObjects } from "./sealed-objects.ts";
import type { RepositorySealer } from "./sealer.ts";

export interface OpenRepositoryOptions {
  /** Closed with the repository, also when it cannot be opened. */
  readonly store: ObjectStore;
  /** Whose it must be. Needed with "write". */
  readonly set?: string;
  /** write: one that is empty is begun. */
  readonly mode: "read" | "write";
  /** Which one was there before: none is begun in its place. */
  readonly expected?: { readonly id: string; readonly notedIn: string } | undefined;
  /** Where the index of blobs is kept; what is in it can be lost. */
  readonly cacheDirectory: string;
  /** Program and version. */
  readonly createdBy: string;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  readonly sealing?: RepositorySealing;
}

/** How a repository gets its sealer. */
export interface RepositorySealing {
  /** Whether one that is begun now gets a key. */
  readonly encrypt: boolean;
  /** @throws KEY_MISSING, KEY_WRONG; NOT_ENCRYPTED when it is not, and what is to be written must be */
  open(store: ObjectStore, config: RepositoryConfig, options: SealingOptions): Promise<RepositorySealer>;
}

export interface SealingOptions {
  readonly mode: "read" | "write";
  readonly signal: AbortSignal;
}

/**
 * @throws REPOSITORY_EMPTY, REPOSITORY_GONE, REPOSITORY_FOREIGN, REPOSITORY_VERSION, OBJECT_MISSING and OBJECT_CORRUPT (its config),
 *   KEY_MISSING, KEY_WRONG, what the store throws
 */
export async function openRepository(options: OpenRepositoryOptions): Promise<Repository> {
  await using scope = new AsyncDisposableStack();
  const { store, cacheDirectory, clock, signal } = options;
  scope.use(store);
  const config = (await readConfig(store, signal)) ?? (await begin(options));
  requireSet(config, options);
  const threads = options.mode === "read" ? scope.use(new EnvelopeThreads()) : undefined;
  const objects = new SealedObjects(store, await sealerOf(config, options), threads);
  const index = scope.use(new BlobIndex(cacheDirectory, config.id));
  const blobs = new PackBlobStore(objects, index, clock);
  await blobs.refresh(signal);
  return new OpenedRepository({ config, objects, blobs, clock, scope: scope.move() });
}

/** Undefined when there is none. */
export async function readConfig(store: ObjectStore, signal: AbortSignal): Promise<RepositoryConfig | undefined> {
  let data: Uint8Array;
  try {
    data = await store.get(CONFIG_OBJECT, signal);
  } catch (error) {
    if (hasCode(error, "OBJECT_MISSING")) return undefined;
    throw error;
  }
  return locatingObject({ location: store.location, name: CONFIG_OBJECT }, () => decodeConfig(data));
}

/** Of two who begin it at once the one whose config is there afterwards decides. */
async function begin(options: OpenRepositoryOptions): Promise<RepositoryConfig> {
  const { store, set, mode, expected, clock, createdBy, signal, sealing } = options;
  for await (const { name } of store.list("", signal)) {
    if (!name.startsWith(PROBE_PREFIX)) throw lostConfig(store, name);
  }
  if (expected) throw gone(store.location, expected);
  if (mode === "read" || set === undefined) throw empty(store.location);
  const encrypted = sealing?.encrypt ?? false;
  const fresh: RepositoryConfig = { id: randomUUID(), set, createdMs: clock.now(), createdBy, encrypted };
  try {
    await store.put(CONFIG_OBJECT, encodeConfig(fresh), signal);
  } catch (error) {
    if (!hasCode(error, "OBJECT_EXISTS")) throw error;
  }
  const config = await readConfig(store, signal);
  if (config) return config;
  throw objectMissing(store, CONFIG_OBJECT);
}

async function sealerOf(
  config: RepositoryConfig,
  { store, mode, signal, sealing }: OpenRepositoryOptions,
): Promise<RepositorySealer> {
  if (sealing) return sealing.open(store, config, { mode, signal });
  if (!config.encrypted) return plainSealer;
  throw new TidemarkError("KEY_MISSING", `${store.location} is encrypted, and no identity is given to open it`, {
    hint: "Name the file of one with identity: under encryption: in tidemark.yml, or in TIDEMARK_IDENTITY.",
  });
}

/** @throws REPOSITORY_FOREIGN */
export function requireSet(config: RepositoryConfig, { set, store }: SetToBe): void {
  if (set === undefined || config.set === set) return;
  throw new TidemarkError("REPOSITORY_FOREIGN", `${store.location} belongs to the set ${config.set}, not to ${set}`, {
    hint: "Every set has a repository of its own: name another place, or the set to which this one belongs.",
  });
}

interface SetToBe {
  /** Undefined: any. */
  readonly set?: string | undefined;
  readonly store: Pick<ObjectStore, "location">;
}

function empty(location: string): TidemarkError {
  return new TidemarkError("REPOSITORY_EMPTY", `${location}: there is no repository`, {
    hint: "Check the place. A replica that is given this place begins a repository there.",
  });
}

function gone(location: string, { id, notedIn }: NonNullable<OpenRepositoryOptions["expected"]>): TidemarkError {
  return new TidemarkError("REPOSITORY_GONE", `${location} is empty, and held the repository ${id} before`, {
    hint: `Mount its disk, or bring it back; it is looked for again. To begin a new one there, remove its line from ${notedIn}.`,
  });
}

function lostConfig(store: ObjectStore, name: string): TidemarkError {
  const { message } = objectMissing(store, CONFIG_OBJECT);
  return new TidemarkError("OBJECT_MISSING", `${message}, but there is ${name}`, {
    hint: "Bring config back from a copy of the repository; or the place holds something else, then name another.",
  });
}

interface OpenedParts {
  readonly config: RepositoryConfig;
  readonly objects: SealedObjects;
  readonly blobs: PackBlobStore;
  readonly clock: Clock;
  readonly scope: AsyncDisposableStack;
}

class OpenedRepository implements Repository {
  readonly config: RepositoryConfig;
  readonly location: string;
  readonly objects: SealedObjects;
  readonly blobs: PackBlobStore;
  readonly segments: ObjectSegmentStore;
  readonly bases: ObjectBaseStore;
  readonly #clock: Clock;
  readonly #scope: AsyncDisposableStack;

  constructor({ config, objects, blobs, clock, scope }: OpenedParts) {
    this.config = config;
    this.location = objects.location;
    this.objects = objects;
    this.blobs = blobs;
    this.segments = new ObjectSegmentStore(objects, (prefix) => blobs.marked(prefix));
    this.bases = new ObjectBaseStore(objects, (prefix) => blobs.marked(prefix));
    this.#clock = clock;
    this.#scope = scope;
  }

  lock(mode: LockMode, signal: AbortSignal): Promise<RepositoryLock> {
    return takeLock({ objects: this.objects, clock: this.#clock, mode, signal });
  }

  announce(signal: AbortSignal): Promise<AsyncDisposable> {
    return takeLock({ objects: this.objects, clock: this.#clock, mode: "shared", signal, besideExclusive: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scope.disposeAsync();
  }
}

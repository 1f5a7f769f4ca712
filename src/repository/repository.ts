import type { BaseStore } from "./base.ts";
import type { BlobStore } from "./blob-store.ts";
import type { SealedObjects } from "./sealed-objects.ts";
import type { SegmentStore } from "./segment.ts";

/** What the object `config` says. */
export interface RepositoryConfig {
  /** UUID. */
  readonly id: string;
  readonly set: string;
  readonly createdMs: number;
  readonly createdBy: string;
  readonly encrypted: boolean;
}

export type LockMode = "shared" | "exclusive";

/** Tells others for as long as it is held what they must not do. Renewed by itself; released by disposing of it. */
export interface RepositoryLock extends AsyncDisposable {
  /** Aborts when it could not be renewed in time: others may take it as left behind, so stop. */
  readonly lost: AbortSignal;
  /** Right before what the lock is for: a process may have slept. @throws REPOSITORY_CHANGED when it was not renewed in time */
  requireHeld(): void;
}

/** A repository of a set: blobs, events, bases. */
export interface Repository extends AsyncDisposable {
  readonly config: RepositoryConfig;
  /** For messages. Never a secret. */
  readonly location: string;
  /** All of it, for whoever verifies or cleans up. */
  readonly objects: SealedObjects;
  readonly blobs: BlobStore;
  readonly segments: SegmentStore;
  readonly bases: BaseStore;
  /** shared: beside other shared ones. @throws REPOSITORY_LOCKED (names host, process, since when) */
  lock(mode: LockMode, signal: AbortSignal): Promise<RepositoryLock>;
  /**
   * A shared lock for whoever reads: also beside an exclusive one, whose owner removes only what was marked long ago, and no
   * reader begins with what is marked.
   */
  announce(signal: AbortSignal): Promise<AsyncDisposable>;
}

import { TidemarkError } from "../runtime/errors.ts";

export interface ObjectInfo {
  readonly name: string;
  readonly bytes: number;
  /** When it was put, by the store's clock and in whole seconds at worst; only `head` tells. */
  readonly modifiedMs?: number;
}

export interface ByteRange {
  readonly offset: number;
  readonly bytes: number;
}

/** See ObjectStore.inPlace. */
export const IN_PLACE_AT_ONCE = 2;

/**
 * Dumb storage: objects under flat names, written once and never overwritten, so that a store needs neither conditional
 * writes nor locks and may keep everything under a retention lock.
 *
 * Names: see `isObjectName`. No name is another's directory ("a" beside "a/b"). Objects are at most some 20 MiB.
 * An aborted signal makes every call throw the signal's reason; what it had begun may or may not have had its effect.
 * Calls may run at the same time, in any number.
 */
export interface ObjectStore extends AsyncDisposable {
  /** For messages: `s3://bucket/prefix`, `sftp://host/path`, `/mnt/backup`. Never a secret. */
  readonly location: string;

  /**
   * All or nothing, and durable when it resolves: a reader, also after a crash of everything, sees the whole object or
   * none. The same bytes again under the same name are fine (a retry after an answer was lost).
   * @throws STORE_UNREACHABLE and STORE_FULL, which can pass; STORE_DENIED; OBJECT_EXISTS when the name holds other
   * bytes, where the store can tell
   */
  put(name: string, data: Uint8Array, signal: AbortSignal): Promise<void>;

  /** All of it, or the range; never short. @throws OBJECT_MISSING, OBJECT_CORRUPT when it ends before the range does */
  get(name: string, signal: AbortSignal, range?: ByteRange): Promise<Uint8Array>;

  /**
   * The file in which these bytes of an object lie, when they need not be asked for with `get`: whoever proves what it reads
   * may read them there, once, and has at most `IN_PLACE_AT_ONCE` such reads on their way. Whether the object is there, and
   * a regular file, shows only then.
   */
  inPlace?(name: string, range: ByteRange): string | undefined;

  /** Undefined when it is not there. */
  head(name: string, signal: AbortSignal): Promise<ObjectInfo | undefined>;

  /**
   * Objects whose names begin with `prefix`, ascending by the bytes of their names; `after`: only names greater than it.
   * Pages are fetched as they are asked for. What is put or removed meanwhile may or may not be among them.
   */
  list(prefix: string, signal: AbortSignal, after?: string): AsyncIterable<ObjectInfo>;

  /** Fine when it is not there. @throws OBJECT_LOCKED with the date until which the store keeps it */
  remove(name: string, signal: AbortSignal): Promise<void>;
}

/** A store keeps an object that is to be removed. */
export class ObjectLocked extends TidemarkError {
  /** A date of ISO 8601, or what must happen before. */
  readonly until: string;

  constructor(message: string, until: string) {
    super("OBJECT_LOCKED", message, {
      hint: "Nothing can remove it before; the next `tidemark expire` after that does.",
    });
    this.until = until;
  }
}

/** The one object that every repository has, written first. */
export const CONFIG_OBJECT = "config";

const MAX_NAME_CHARACTERS = 200;

/** `[a-z0-9._/-]`, 1 to 200 characters; no component is empty or begins with a dot. Safe on every file system. */
export function isObjectName(name: string): boolean {
  return name.length <= MAX_NAME_CHARACTERS && /^[a-z0-9_-][a-z0-9._-]*(?:\/[a-z0-9_-][a-z0-9._-]*)*$/.test(name);
}

export function objectMissing(store: Pick<ObjectStore, "location">, name: string, cause?: unknown): TidemarkError {
  return new TidemarkError("OBJECT_MISSING", `${store.location}: there is no object ${name}`, {
    hint: "`tidemark verify` tells what is missing and what depends on it.",
    cause,
  });
}

export function objectCut(
  store: Pick<ObjectStore, "location">,
  name: string,
  found: { readonly bytes: number; readonly range: ByteRange },
): TidemarkError {
  const { bytes, range } = found;
  const wanted = `${range.bytes} bytes at ${range.offset}`;
  return new TidemarkError("OBJECT_CORRUPT", `${store.location}: ${name} has ${bytes} bytes, so not ${wanted}`, {
    hint: "`tidemark verify` tells what is damaged and what depends on it.",
  });
}

export function objectExists(store: Pick<ObjectStore, "location">, name: string): TidemarkError {
  return new TidemarkError("OBJECT_EXISTS", `${store.location}: ${name} is there already, with other bytes`, {
    hint: "Nothing was overwritten. `tidemark verify` tells whether the repository is sound.",
  });
}

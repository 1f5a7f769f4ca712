import { randomUUID } from "node:crypto";
import path from "node:path";

import type { SftpPlace } from "../config/config.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { missingRoot } from "./fs-store-errors.ts";
import { byBytes, inListing, type Listing } from "./fs-store-list.ts";
import {
  type ByteRange,
  CONFIG_OBJECT,
  isObjectName,
  objectCut,
  objectExists,
  type ObjectInfo,
  objectMissing,
  type ObjectStore,
} from "./object-store.ts";
import { SftpConnection, type SftpOptions, type SftpSession } from "./sftp-connection.ts";
import { isSftpAbsence, isSftpAnswer, sftpStoreError, sftpStoreFull } from "./sftp-errors.ts";
import { type RemoteFile, SftpFiles } from "./sftp-files.ts";
import { storeLocation } from "./store-location.ts";
import { LEFTOVER_AGE_MS, UNFINISHED } from "./unfinished.ts";

/** For the slowest of calls, a whole object on a slow line; a peer that is gone is noticed before by its silence. */
const CALL_MS = 10 * 60_000;
const CLEAN_UP_MS = 10_000;
const LISTS_AHEAD = 8;
/** A file system is full before its last byte. */
const RESERVE_BYTES = 64 * 1024;

/** A directory on a host that serves SFTP, used as `FsStore` uses one here. */
export class SftpStore implements ObjectStore {
  readonly location: string;
  readonly #directory: string;
  readonly #connection: SftpConnection;
  readonly #directories = new Set<string>();
  #established = false;
  #swept = false;

  constructor(place: SftpPlace, options?: SftpOptions) {
    this.location = storeLocation(place);
    this.#directory = place.directory;
    this.#connection = new SftpConnection(place, options);
  }

  async put(name: string, data: Uint8Array, signal: AbortSignal): Promise<void> {
    await this.#during(name, signal, async (files, session) => {
      if (await this.#holdsAlready(files, name, data)) return;
      const unfinished = path.posix.join(this.#directory, UNFINISHED, randomUUID());
      try {
        await this.#makeDirectory(files, path.posix.dirname(unfinished));
        await files.write(unfinished, data);
        await this.#sweep(files, unfinished);
        await this.#makeDirectory(files, path.posix.dirname(this.#file(name)));
        await files.rename(unfinished, this.#file(name));
      } catch (error) {
        throw await this.#putFailed(error, { name, unfinished, bytes: data.length, session });
      }
      await files.syncDirectory(path.posix.dirname(this.#file(name)));
    });
  }

  async get(name: string, signal: AbortSignal, range?: ByteRange): Promise<Uint8Array> {
    return await this.#during(name, signal, async (files) => {
      const found = await this.#statObject(files, name);
      if (!found) throw objectMissing(this, name);
      const wanted = range ?? { offset: 0, bytes: found.size };
      const cut = objectCut(this, name, { bytes: found.size, range: wanted });
      if (wanted.offset + wanted.bytes > found.size) throw cut;
      const data = await files.read(this.#file(name), wanted);
      if (data.length < wanted.bytes) throw cut;
      return data;
    });
  }

  async head(name: string, signal: AbortSignal): Promise<ObjectInfo | undefined> {
    return await this.#during(name, signal, async (files) => {
      const found = await this.#statObject(files, name);
      return found && { name, bytes: found.size, modifiedMs: found.modified * 1000 };
    });
  }

  async *list(prefix: string, signal: AbortSignal, after = ""): AsyncGenerator<ObjectInfo, void, void> {
    await this.#during(`${prefix}…`, signal, async (files) => await this.#requireRoot(files));
    const listing = { prefix, after, signal };
    yield* this.#listBelow(this.#entriesOf("", listing), listing);
    await this.#during(`${prefix}…`, signal, async (files) => await this.#requireRoot(files));
  }

  async remove(name: string, signal: AbortSignal): Promise<void> {
    await this.#during(name, signal, async (files) => {
      await this.#requireRoot(files);
      try {
        await files.remove(this.#file(name));
      } catch (error) {
        if (isSftpAbsence(error)) return;
        throw error;
      }
      if (name === CONFIG_OBJECT) this.#established = false;
      await files.syncDirectory(path.posix.dirname(this.#file(name)));
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#connection.close();
  }

  #file(name: string): string {
    return path.posix.join(this.#directory, name);
  }

  /** In the order of whole names. Some directories are read ahead: each takes several answers. */
  async *#listBelow(entries: Promise<ObjectInfo[]>, listing: Listing): AsyncGenerator<ObjectInfo, void, void> {
    const objects = await entries;
    const folders = objects.filter(({ name }) => name.endsWith("/"));
    const ahead: Promise<ObjectInfo[]>[] = [];
    for (const object of objects) {
      listing.signal.throwIfAborted();
      if (!object.name.endsWith("/")) {
        yield object;
        continue;
      }
      const next = folders.splice(0, LISTS_AHEAD - ahead.length);
      ahead.push(...next.map(({ name }) => this.#entriesOf(name, listing)));
      const below = ahead.shift();
      if (below) yield* this.#listBelow(below, listing);
    }
  }

  /** Directories with a slash behind. */
  #entriesOf(folder: string, listing: Listing): Promise<ObjectInfo[]> {
    const entries = this.#during(`${listing.prefix}…`, listing.signal, async (files) => {
      const found = await files.list(this.#file(folder));
      return found
        .filter(({ name, kind }) => kind !== undefined && isObjectName(name))
        .map(({ name, kind, size }) => ({ name: `${folder}${name}${kind === "directory" ? "/" : ""}`, bytes: size }))
        .filter(({ name }) => inListing(name, listing))
        .sort((one, other) => byBytes(one.name, other.name));
    });
    // Whoever comes to it is told; perhaps nobody does.
    entries.catch(() => undefined);
    return entries;
  }

  async #during<T>(
    name: string,
    signal: AbortSignal,
    work: (files: SftpFiles, session: SftpSession) => Promise<T>,
  ): Promise<T> {
    signal.throwIfAborted();
    const ended = AbortSignal.any([signal, AbortSignal.timeout(CALL_MS)]);
    const session = await this.#connection.get(ended);
    try {
      return await work(new SftpFiles(session, ended), session);
    } catch (error) {
      // One of them may have been removed by somebody.
      this.#directories.clear();
      signal.throwIfAborted();
      if (error instanceof TidemarkError) throw error;
      // Whoever else waits on it would wait as long.
      if (!isSftpAnswer(error)) session.end();
      throw sftpStoreError(error, { location: this.location, name });
    }
  }

  /** The protocol has no word for a full disk; so the room is looked at before what was written makes way. */
  async #putFailed(
    error: unknown,
    put: { readonly name: string; readonly unfinished: string; readonly bytes: number; readonly session: SftpSession },
  ): Promise<unknown> {
    const { name, unfinished, bytes, session } = put;
    const files = new SftpFiles(session, AbortSignal.timeout(CLEAN_UP_MS));
    const looksFull = isSftpAnswer(error) && !isSftpAbsence(error);
    try {
      const written = (await files.stat(unfinished))?.size ?? 0;
      const free = looksFull ? await files.freeBytes(path.posix.dirname(unfinished)) : undefined;
      await files.remove(unfinished);
      if (free === undefined || free - RESERVE_BYTES > bytes - written) return error;
    } catch {
      // What happened counts. A later sweep takes what stays.
      return error;
    }
    return sftpStoreFull(error, { location: this.location, name });
  }

  async #statObject(files: SftpFiles, name: string): Promise<RemoteFile | undefined> {
    const found = await files.stat(this.#file(name));
    if (!found) await this.#requireRoot(files);
    return found?.kind === "file" ? found : undefined;
  }

  async #requireRoot(files: SftpFiles): Promise<void> {
    if (await files.stat(this.#file(CONFIG_OBJECT))) this.#established = true;
    else if (this.#established) throw missingRoot(this.location);
  }

  /** A put whose answer was lost comes again. What lies there may not have been durable when its writer died. */
  async #holdsAlready(files: SftpFiles, name: string, data: Uint8Array): Promise<boolean> {
    const [found] = await Promise.all([files.stat(this.#file(name)), this.#requireRoot(files)]);
    if (found?.kind !== "file") return false;
    const same = found.size === data.length;
    const stored = same ? await files.read(this.#file(name), { offset: 0, bytes: data.length }) : undefined;
    if (!stored || Buffer.compare(stored, data) !== 0) throw objectExists(this, name);
    await files.sync(this.#file(name));
    await files.syncDirectory(path.posix.dirname(this.#file(name)));
    return true;
  }

  async #makeDirectory(files: SftpFiles, directory: string): Promise<void> {
    if (this.#directories.has(directory)) return;
    const parent = path.posix.dirname(directory);
    if (!(await files.stat(directory))) {
      if (parent !== directory) await this.#makeDirectory(files, parent);
      await files.makeDirectory(directory);
    }
    await files.syncDirectory(parent);
    this.#directories.add(directory);
  }

  /** Once, and by the clock over there. */
  async #sweep(files: SftpFiles, own: string): Promise<void> {
    if (this.#swept) return;
    this.#swept = true;
    const now = (await files.stat(own))?.modified ?? 0;
    const directory = path.posix.dirname(own);
    for (const { name, modified } of await files.list(directory)) {
      if (modified < now - LEFTOVER_AGE_MS / 1000)
        await files.remove(path.posix.join(directory, name)).catch(() => undefined);
    }
  }
}

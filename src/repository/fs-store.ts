import { randomUUID } from "node:crypto";
import { constants } from "node:fs";
import fs, { type FileHandle } from "node:fs/promises";
import path from "node:path";

import { makeDirectory } from "../runtime/durable-directory.ts";
import { errnoOf, TidemarkError } from "../runtime/errors.ts";
import { fsStoreError, missingRoot } from "./fs-store-errors.ts";
import { listFiles } from "./fs-store-list.ts";
import {
  type ByteRange,
  CONFIG_OBJECT,
  objectCut,
  objectExists,
  type ObjectInfo,
  objectMissing,
  type ObjectStore,
} from "./object-store.ts";
import { LEFTOVER_AGE_MS, UNFINISHED } from "./unfinished.ts";

/**
 * Objects as files of a directory, also one on a network: written under another name, synced, renamed, and the directory
 * synced. Once `config` was seen here a directory without it counts as gone (a mount that is away), not as empty.
 */
export class FsStore implements ObjectStore {
  readonly location: string;
  #established = false;
  #swept = false;
  /** Made durable by this process. */
  readonly #directories = new Set<string>();

  constructor(directory: string) {
    this.location = path.resolve(directory);
  }

  async put(name: string, data: Uint8Array, signal: AbortSignal): Promise<void> {
    await this.#during(name, signal, async () => {
      await this.#requireRoot();
      if (await this.#holdsAlready(name, data)) return;
      const unfinished = await this.#writeUnfinished(data, signal);
      try {
        signal.throwIfAborted();
        this.#makeDirectory(path.dirname(this.#file(name)));
        if (!(name === CONFIG_OBJECT && (await this.#linkOnly(unfinished, { name, data }))))
          await fs.rename(unfinished, this.#file(name));
      } catch (error) {
        await fs.rm(unfinished, { force: true });
        throw error;
      }
      await syncDirectoryOf(this.#file(name));
    });
  }

  async get(name: string, signal: AbortSignal, range?: ByteRange): Promise<Uint8Array> {
    return await this.#during(name, signal, async () => {
      await using file = await openIfThere(this.#file(name));
      const found = await file?.stat();
      if (!file || !found?.isFile()) return await this.#missing(name);
      const { size } = found;
      const wanted = range ?? { offset: 0, bytes: size };
      if (wanted.offset + wanted.bytes > size) throw objectCut(this, name, { bytes: size, range: wanted });
      const data = Buffer.allocUnsafeSlow(wanted.bytes);
      if ((await readInto(file, data, wanted.offset)) < data.length) {
        throw objectCut(this, name, { bytes: size, range: wanted });
      }
      signal.throwIfAborted();
      return data;
    });
  }

  inPlace(name: string): string {
    return this.#file(name);
  }

  async head(name: string, signal: AbortSignal): Promise<ObjectInfo | undefined> {
    return await this.#during(name, signal, async () => {
      const found = await statFile(this.#file(name));
      if (!found) await this.#requireRoot();
      else if (name === CONFIG_OBJECT) this.#established = true;
      return found && { name, bytes: found.size, modifiedMs: found.mtimeMs };
    });
  }

  async *list(prefix: string, signal: AbortSignal, after = ""): AsyncGenerator<ObjectInfo, void, void> {
    try {
      signal.throwIfAborted();
      await this.#requireRoot();
      yield* listFiles(this.location, { prefix, after, signal });
    } catch (error) {
      throw this.#explain(error, `${prefix}…`, signal);
    }
    // One that went away meanwhile looked like the end.
    await this.#requireRoot();
  }

  async remove(name: string, signal: AbortSignal): Promise<void> {
    await this.#during(name, signal, async () => {
      await this.#requireRoot();
      try {
        await fs.unlink(this.#file(name));
      } catch (error) {
        if (isAbsence(error)) return;
        throw error;
      }
      if (name === CONFIG_OBJECT) this.#established = false;
      await syncDirectoryOf(this.#file(name));
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #file(name: string): string {
    return path.join(this.location, name);
  }

  #makeDirectory(directory: string): void {
    if (this.#directories.has(directory)) return;
    makeDirectory(directory, { mode: 0o700 });
    this.#directories.add(directory);
  }

  async #during<T>(name: string, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    signal.throwIfAborted();
    try {
      return await work();
    } catch (error) {
      throw this.#explain(error, name, signal);
    }
  }

  #explain(error: unknown, name: string, signal: AbortSignal): unknown {
    if (signal.aborted) return signal.reason;
    // One of them may have been removed by somebody.
    this.#directories.clear();
    return error instanceof TidemarkError ? error : fsStoreError(error, { location: this.location, name });
  }

  /** Under a mount point that lost its mount is another directory, empty or not there. @throws STORE_UNREACHABLE */
  async #requireRoot(): Promise<void> {
    const there = await statFile(this.#file(CONFIG_OBJECT));
    if (there) this.#established = true;
    else if (this.#established) throw missingRoot(this.location);
  }

  /** @throws OBJECT_MISSING, STORE_UNREACHABLE */
  async #missing(name: string): Promise<never> {
    await this.#requireRoot();
    throw objectMissing(this, name);
  }

  /** A put whose answer was lost comes again. What lies there may not have been durable when its writer died. */
  async #holdsAlready(name: string, data: Uint8Array): Promise<boolean> {
    const file = this.#file(name);
    const found = await statFile(file);
    if (!found) return false;
    if (found.size !== data.length || Buffer.compare(await fs.readFile(file), data) !== 0)
      throw objectExists(this, name);
    await using handle = await fs.open(file, "r");
    await handle.sync();
    await syncDirectoryOf(file);
    return true;
  }

  /**
   * Two may begin a repository in the same moment, and a rename would take one's config from under it: a link does not
   * replace. False where the file system has no links. @throws OBJECT_EXISTS
   */
  async #linkOnly(unfinished: string, { name, data }: { name: string; data: Uint8Array }): Promise<boolean> {
    try {
      await fs.link(unfinished, this.#file(name));
    } catch (error) {
      if (errnoOf(error) !== "EEXIST") return false;
      if (!(await this.#holdsAlready(name, data))) return false;
    }
    await fs.rm(unfinished, { force: true });
    return true;
  }

  async #writeUnfinished(data: Uint8Array, signal: AbortSignal): Promise<string> {
    const directory = path.join(this.location, UNFINISHED);
    const file = path.join(directory, randomUUID());
    this.#makeDirectory(directory);
    try {
      await using handle = await fs.open(file, "wx", 0o600);
      await handle.writeFile(data, { signal });
      await handle.sync();
      await this.#sweep(directory, handle);
    } catch (error) {
      await fs.rm(file, { force: true });
      throw error;
    }
    return file;
  }

  /** Removes what killed writers left, once; measured by the file system's own clock, which may be another host's. */
  async #sweep(directory: string, own: FileHandle): Promise<void> {
    if (this.#swept) return;
    this.#swept = true;
    const { mtimeMs } = await own.stat();
    for (const entry of await fs.readdir(directory)) {
      const file = path.join(directory, entry);
      const found = await statFile(file);
      if (found && found.mtimeMs < mtimeMs - LEFTOVER_AGE_MS) await fs.rm(file, { force: true });
    }
  }
}

async function statFile(file: string): Promise<{ size: number; mtimeMs: number } | undefined> {
  try {
    const found = await fs.stat(file);
    return found.isFile() ? found : undefined;
  } catch (error) {
    if (isAbsence(error)) return undefined;
    throw error;
  }
}

/** Without waiting for the other end of a FIFO. */
async function openIfThere(file: string): Promise<FileHandle | undefined> {
  try {
    return await fs.open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if (isAbsence(error)) return undefined;
    throw error;
  }
}

/** A read may give less than it was asked for. */
async function readInto(file: FileHandle, data: Buffer, offset: number): Promise<number> {
  let done = 0;
  while (done < data.length) {
    const { bytesRead } = await file.read(data, done, data.length - done, offset + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}

async function syncDirectoryOf(file: string): Promise<void> {
  await using directory = await fs.open(path.dirname(file), "r");
  await directory.sync();
}

function isAbsence(error: unknown): boolean {
  return ["ENOENT", "ENOTDIR"].includes(errnoOf(error) ?? "");
}

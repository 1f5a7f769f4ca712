import { setMaxListeners } from "node:events";

import type { FileEntryWithStats, SFTPWrapper, Stats } from "ssh2";

import type { ByteRange } from "./object-store.ts";
import type { SftpSession } from "./sftp-connection.ts";
import { isSftpAbsence, isSftpAnswer, isSftpEnd, isSftpUnsupported } from "./sftp-errors.ts";

type Done<T> = (error: Error | null | undefined, value: T) => void;

export interface RemoteFile {
  readonly size: number;
  /** Undefined: neither, such as a link in a list. */
  readonly kind: "file" | "directory" | undefined;
  /** Seconds since 1970 by the clock over there. */
  readonly modified: number;
}

/** What every server takes at once. */
const PIECE = 32 * 1024;
/** On their way at once, so that the line is filled and not the time between two answers. */
const PIECES = 32;
const TYPE = 0o170000;
const KINDS = new Map<number, RemoteFile["kind"]>([
  [0o100000, "file"],
  [0o040000, "directory"],
]);

/** The calls that a store needs, each given up when `signal` says so. */
export class SftpFiles {
  readonly #sftp: SFTPWrapper;
  readonly #ended: AbortSignal;

  constructor({ sftp, cut }: SftpSession, signal: AbortSignal) {
    this.#sftp = sftp;
    this.#ended = AbortSignal.any([signal, cut]);
    setMaxListeners(0, this.#ended);
  }

  async stat(file: string): Promise<RemoteFile | undefined> {
    try {
      return remoteFile(await this.#call<Stats>((done) => this.#sftp.stat(file, done)));
    } catch (error) {
      if (isSftpAbsence(error)) return undefined;
      throw error;
    }
  }

  async list(directory: string): Promise<(RemoteFile & { readonly name: string })[]> {
    try {
      const entries = await this.#call<FileEntryWithStats[]>((done) => this.#sftp.readdir(directory, done));
      return entries.map(({ filename, attrs }) => ({ name: filename, ...remoteFile(attrs) }));
    } catch (error) {
      if (isSftpAbsence(error)) return [];
      throw error;
    }
  }

  /** A new file, synced. */
  async write(file: string, data: Uint8Array): Promise<void> {
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    await this.#withOpen(file, "wx", async (handle) => {
      await inPieces({ offset: 0, bytes: bytes.length }, async (offset, length) => {
        await this.#do((done) => this.#sftp.write(handle, bytes, offset, length, offset, done));
      });
      await this.#sync(handle);
    });
  }

  /** As much of the range as is there. */
  async read(file: string, range: ByteRange): Promise<Buffer> {
    const data = Buffer.allocUnsafeSlow(range.bytes);
    let end = data.length;
    await this.#withOpen(file, "r", async (handle) => {
      await inPieces(range, async (offset, length) => {
        const piece = data.subarray(offset, offset + length);
        const count = await this.#fill(handle, piece, range.offset + offset);
        if (count < length) end = Math.min(end, offset + count);
      });
    });
    return data.subarray(0, end);
  }

  /** The plain one of the protocol is refused where something is. */
  async rename(from: string, to: string): Promise<void> {
    try {
      await this.#do((done) => this.#sftp.ext_openssh_rename(from, to, done));
    } catch (error) {
      if (!isSftpUnsupported(error)) throw error;
      await this.#do((done) => this.#sftp.rename(from, to, done));
    }
  }

  async remove(file: string): Promise<void> {
    await this.#do((done) => this.#sftp.unlink(file, done));
  }

  /** Fine when somebody else made it meanwhile. */
  async makeDirectory(directory: string): Promise<void> {
    try {
      await this.#do((done) => this.#sftp.mkdir(directory, { mode: 0o700 }, done));
    } catch (error) {
      if (!isSftpAnswer(error) || (await this.stat(directory))?.kind !== "directory") throw error;
    }
  }

  async sync(file: string): Promise<void> {
    await this.#withOpen(file, "r", async (handle) => await this.#sync(handle));
  }

  /** The names in it. Servers that open no directories keep them as durable as they do. */
  async syncDirectory(directory: string): Promise<void> {
    try {
      await this.sync(directory);
    } catch (error) {
      if (!isSftpAnswer(error)) throw error;
    }
  }

  /** Undefined where the server does not tell. */
  async freeBytes(directory: string): Promise<number | undefined> {
    try {
      const found = await this.#call<FileSystem>((done) => this.#sftp.ext_openssh_statvfs(directory, done));
      return Number(found.f_bavail) * Number(found.f_frsize);
    } catch (error) {
      if (isSftpAnswer(error)) return undefined;
      throw error;
    }
  }

  async #sync(handle: Buffer): Promise<void> {
    try {
      await this.#do((done) => this.#sftp.ext_openssh_fsync(handle, done));
    } catch (error) {
      if (!isSftpUnsupported(error)) throw error;
    }
  }

  /** An answer may be shorter than what was asked for. */
  async #fill(handle: Buffer, into: Buffer, position: number): Promise<number> {
    let done = 0;
    while (done < into.length) {
      const count = await this.#readSome(handle, into.subarray(done), position + done);
      if (count === 0) break;
      done += count;
    }
    return done;
  }

  async #readSome(handle: Buffer, into: Buffer, position: number): Promise<number> {
    try {
      return await this.#call<number>((done) => {
        this.#sftp.read(handle, into, 0, into.length, position, (error, count) => done(error, count));
      });
    } catch (error) {
      if (isSftpEnd(error)) return 0;
      throw error;
    }
  }

  async #withOpen(file: string, mode: "r" | "wx", work: (handle: Buffer) => Promise<void>): Promise<void> {
    const handle = await this.#open(file, mode);
    try {
      await work(handle);
    } catch (error) {
      this.#close(handle);
      throw error;
    }
    // Some servers say only now that a write failed.
    await this.#do((done) => this.#sftp.close(handle, done));
  }

  /** One that is opened after we gave up is closed at once: servers have few. */
  async #open(file: string, mode: "r" | "wx"): Promise<Buffer> {
    return await this.#call<Buffer>((done) => {
      this.#sftp.open(file, mode, { mode: 0o600 }, (error, handle) => {
        if (!error && this.#ended.aborted) this.#close(handle);
        done(error, handle);
      });
    });
  }

  #close(handle: Buffer): void {
    this.#sftp.close(handle, () => undefined);
  }

  async #do(begin: (done: (error?: Error | null) => void) => unknown): Promise<void> {
    await this.#call<undefined>((done) => begin((error) => done(error, undefined)));
  }

  /** A connection that is cut does not call back at once, or never. */
  async #call<T>(begin: (done: Done<T>) => unknown): Promise<T> {
    this.#ended.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const giveUp = (): void => reject(this.#ended.reason);
    this.#ended.addEventListener("abort", giveUp, { once: true });
    try {
      begin((error, value) => (error ? reject(error) : resolve(value)));
      return await promise;
    } finally {
      this.#ended.removeEventListener("abort", giveUp);
    }
  }
}

/** As statvfs(3) has it. */
interface FileSystem {
  readonly f_bavail: number | bigint;
  readonly f_frsize: number | bigint;
}

function remoteFile({ size, mode, mtime }: Pick<Stats, "size" | "mode" | "mtime">): RemoteFile {
  return { size, kind: KINDS.get(mode & TYPE), modified: mtime };
}

/** Several at once; when one fails, so does all of it, after the others have ended. */
async function inPieces(range: ByteRange, work: (offset: number, length: number) => Promise<void>): Promise<void> {
  let next = 0;
  const lane = async (): Promise<void> => {
    while (next < range.bytes) {
      const offset = next;
      next += PIECE;
      await work(offset, Math.min(PIECE, range.bytes - offset));
    }
  };
  const ends = await Promise.allSettled(Array.from({ length: PIECES }, lane));
  for (const end of ends) if (end.status === "rejected") throw end.reason;
}

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const SOURCE = fileURLToPath(new URL("recorder.c", import.meta.url));
const HEAD_BYTES = 32;

/** One effect on the disk, in the order in which they happened. */
export type DiskEffect =
  | { readonly kind: "create" | "mkdir"; readonly path: string; readonly inode: bigint }
  | {
      readonly kind: "write";
      readonly path: string;
      readonly inode: bigint;
      readonly at: number;
      readonly data: Buffer;
    }
  | { readonly kind: "truncate"; readonly path: string; readonly inode: bigint; readonly size: number }
  /** What was written before `sync-begin` is durable from `sync-end` with the same token on. */
  | { readonly kind: "sync-begin" | "sync-end"; readonly path: string; readonly inode: bigint; readonly token: bigint }
  | { readonly kind: "rename"; readonly path: string; readonly to: string }
  | { readonly kind: "unlink"; readonly path: string };

/** Records what programs do to the files below a directory; see recorder.c. */
export class DiskJournal {
  /** For the environment of the programs. */
  readonly env: Record<string, string>;
  readonly #file: string;

  /** @param directory for the library and the journal, outside of the disk. @param disk empty, its real path */
  constructor(directory: string, disk: string) {
    const library = path.join(directory, "recorder.so");
    this.#file = path.join(directory, "disk.journal");
    execFileSync("cc", ["-O2", "-shared", "-fPIC", "-o", library, SOURCE]);
    fs.writeFileSync(this.#file, "");
    this.env = {
      LD_PRELOAD: library,
      TIDEMARK_TEST_DISK: disk,
      TIDEMARK_TEST_DISK_JOURNAL: this.#file,
      // Writes that bypass libc would not be seen.
      UV_USE_IO_URING: "0",
    };
  }

  /** kill -9 between two effects, never between one and its record. */
  kill(pid: number): void {
    execFileSync("flock", [this.#file, "kill", "-9", String(pid)]);
  }

  effects(): DiskEffect[] {
    const bytes = fs.readFileSync(this.#file);
    const effects: DiskEffect[] = [];
    for (let start = 0; start < bytes.length;) {
      const pathEnd = start + HEAD_BYTES + bytes.readUInt32LE(start);
      const end = pathEnd + bytes.readUInt32LE(start + 4);
      effects.push(
        decode(String.fromCharCode(bytes.readUInt32LE(start + 24)), {
          inode: bytes.readBigUInt64LE(start + 8),
          at: bytes.readBigUInt64LE(start + 16),
          path: bytes.toString("utf8", start + HEAD_BYTES, pathEnd),
          data: bytes.subarray(pathEnd, end),
        }),
      );
      start = end;
    }
    return effects;
  }
}

function decode(kind: string, record: { inode: bigint; at: bigint; path: string; data: Buffer }): DiskEffect {
  const { inode, at, data } = record;
  const file = record.path;
  switch (kind) {
    case "C":
      return { kind: "create", path: file, inode };
    case "M":
      return { kind: "mkdir", path: file, inode };
    case "W":
      return { kind: "write", path: file, inode, at: Number(at), data };
    case "T":
      return { kind: "truncate", path: file, inode, size: Number(at) };
    case "B":
      return { kind: "sync-begin", path: file, inode, token: at };
    case "E":
      return { kind: "sync-end", path: file, inode, token: at };
    case "R":
      return { kind: "rename", path: file, to: data.toString() };
    case "U":
      return { kind: "unlink", path: file };
    default:
      throw new Error(`the recorder cannot replay ${data.toString()} of ${file}`);
  }
}

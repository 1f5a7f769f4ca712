import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

/**
 * A file system of a few MiB, to be full. A tmpfs when this process may mount one (root, or sudo without a password);
 * else it throws: a test of a full disk is never skipped silently.
 */
export class SmallDisk implements Disposable {
  readonly path: string;

  constructor(parent: string, mebibytes: number) {
    this.path = path.join(parent, "small-disk");
    fs.mkdirSync(this.path);
    asRoot("mount", "-t", "tmpfs", "-o", `size=${mebibytes}m,mode=0777`, "tmpfs", this.path);
  }

  /** Makes room, or takes what nobody uses, without disturbing who works there. */
  resize(mebibytes: number): void {
    asRoot("mount", "-o", `remount,size=${mebibytes}m`, this.path);
  }

  get freeBytes(): number {
    const { bavail, bsize } = fs.statfsSync(this.path);
    return bavail * bsize;
  }

  [Symbol.dispose](): void {
    asRoot("umount", "--lazy", this.path);
  }
}

/** What it says. */
export function asRoot(...command: [string, ...string[]]): string {
  const [file, ...args] = process.getuid?.() === 0 ? command : (["sudo", "--non-interactive", ...command] as const);
  return execFileSync(file, args, { stdio: "pipe", encoding: "utf8" });
}

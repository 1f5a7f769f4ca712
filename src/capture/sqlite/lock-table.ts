import fs from "node:fs";

const TABLE = "/proc/locks";

/**
 * Whether another process holds an SQLite lock on a file that this process holds locks on, by the kernel's lock table
 * (Linux, proc(5)). Undefined where the table cannot tell: it is not there, or does not even show our own locks (some
 * file systems give stat other device numbers).
 */
export function othersHoldLocks(fd: number): boolean | undefined {
  let table: string;
  try {
    table = fs.readFileSync(TABLE, "latin1");
  } catch {
    return undefined;
  }
  const { dev, ino } = fs.fstatSync(fd);
  // Encoding of dev_t in glibc's <sys/sysmacros.h>, for device numbers of up to 32 bits.
  const major = (dev >>> 8) & 0xfff;
  const minor = (dev & 0xff) | ((dev >>> 12) & 0xfff00);
  const file = `${hex(major)}:${hex(minor)}:${ino}`;
  const holders = new Set<number>();
  for (const line of table.split("\n")) {
    // 7: POSIX  ADVISORY  READ 4711 fe:00:655361 128 128
    const [, type, , , pid, where] = line.trim().split(/\s+/);
    if (type === "POSIX" && where === file) holders.add(Number(pid));
  }
  if (!holders.delete(process.pid)) return undefined;
  return holders.size > 0;
}

function hex(value: number): string {
  return value.toString(16).padStart(2, "0");
}

import fs from "node:fs";

const TABLE = "/proc/locks";
/** The first namespace of process ids, PROC_PID_INIT_INO of Linux. In another one, a container's, locks of processes outside it are not shown. */
const SEES_EVERY_PROCESS = "pid:[4026531836]";
/** The table names every lock of the machine: with many databases it is read once for all of them. */
const KEPT_MS = 2000;

/** Processes that hold locks, by file. */
type Holders = ReadonlyMap<string, ReadonlySet<number>>;

let kept: { readonly holders: Holders; readonly readMs: number } | undefined;

/**
 * Whether another process holds an SQLite lock on a file that this process holds locks on, by the kernel's lock table
 * (Linux, proc(5)). Undefined where the table cannot tell: it is not there, leaves processes out (in a container), or
 * does not even show our own locks (some file systems give stat other device numbers). `now`: not as of two seconds ago.
 */
export function othersHoldLocks(fd: number, { now }: { readonly now: boolean }): boolean | undefined {
  if (now || !kept || performance.now() - kept.readMs > KEPT_MS) {
    kept = { holders: readTable(), readMs: performance.now() };
  }
  const { dev, ino } = fs.fstatSync(fd);
  // Encoding of dev_t in glibc's <sys/sysmacros.h>, for device numbers of up to 32 bits.
  const major = (dev >>> 8) & 0xfff;
  const minor = (dev & 0xff) | ((dev >>> 12) & 0xfff00);
  const pids = kept.holders.get(`${hex(major)}:${hex(minor)}:${ino}`);
  return pids?.has(process.pid) ? pids.size > 1 : undefined;
}

function readTable(): Holders {
  const holders = new Map<string, Set<number>>();
  let table: string;
  try {
    if (fs.readlinkSync("/proc/self/ns/pid") !== SEES_EVERY_PROCESS) return holders;
    table = fs.readFileSync(TABLE, "latin1");
  } catch {
    return holders;
  }
  for (const line of table.split("\n")) {
    // 7: POSIX  ADVISORY  READ 4711 fe:00:655361 128 128
    const [, type, , , pid, where] = line.trim().split(/\s+/);
    if (type !== "POSIX" || where === undefined) continue;
    const pids = holders.get(where) ?? new Set();
    holders.set(where, pids.add(Number(pid)));
  }
  return holders;
}

function hex(value: number): string {
  return value.toString(16).padStart(2, "0");
}

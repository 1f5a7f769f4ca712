import fs from "node:fs";

const TABLE = "/proc/locks";
/** The first namespace of process ids, PROC_PID_INIT_INO of Linux. In another one, a container's, locks of processes outside it are not shown. */
const SEES_EVERY_PROCESS = "pid:[4026531836]";
/** The table names every lock of the machine: with many databases it is read once for all of them. */
const KEPT_MS = 2000;
/** Whoever cannot wait for that has it read again, but for at most so small a share of the time. */
const READING_SHARE = 0.01;
/** WAL_READ_LOCK(1) to (4) in SQLite's wal.c, by byte of the -shm file. Read lock 0 is the one before. */
const READ_MARKS = { first: 124, last: 127 };

interface HeldLock {
  readonly pid: number;
  readonly first: number;
  readonly last: number;
}

interface LockTable {
  /** By device and inode as the table writes them. */
  readonly locks: ReadonlyMap<string, readonly HeldLock[]>;
  readonly readMs: number;
  readonly tookMs: number;
}

let kept: LockTable | undefined;

/**
 * Whether another process holds an SQLite lock on a file that this process holds locks on, by the kernel's lock table
 * (Linux, proc(5)). Undefined where the table cannot tell: it is not there, leaves processes out (in a container), or
 * does not even show our own locks (some file systems give stat other device numbers). `now`: not as of two seconds ago.
 */
export function othersHoldLocks(fd: number, { now }: { readonly now: boolean }): boolean | undefined {
  if (now || !kept || performance.now() - kept.readMs > KEPT_MS) kept = readTable();
  const locks = locksOn(fd, kept);
  if (!locks.some(({ pid }) => pid === process.pid) || !seesEveryProcess()) return undefined;
  return locks.some(({ pid }) => pid !== process.pid);
}

/**
 * Whether this process holds one of the read marks 1 to 4 of the database with this -shm, as of some moment after `sinceMs`
 * (performance.now). "later": the table was read just now, before that moment. Undefined where it cannot tell.
 */
export function holdsReadMark(shmFd: number, sinceMs: number): boolean | "later" | undefined {
  if (!kept || kept.readMs <= sinceMs) {
    if (kept && performance.now() - kept.readMs < kept.tookMs / READING_SHARE) return "later";
    kept = readTable();
  }
  const ours = locksOn(shmFd, kept).filter(({ pid }) => pid === process.pid);
  if (ours.length === 0) return undefined;
  return ours.some(({ first, last }) => first <= READ_MARKS.last && last >= READ_MARKS.first);
}

function locksOn(fd: number, { locks }: LockTable): readonly HeldLock[] {
  const { dev, ino } = fs.fstatSync(fd);
  // Encoding of dev_t in glibc's <sys/sysmacros.h>, for device numbers of up to 32 bits.
  const major = (dev >>> 8) & 0xfff;
  const minor = (dev & 0xff) | ((dev >>> 12) & 0xfff00);
  return locks.get(`${hex(major)}:${hex(minor)}:${ino}`) ?? [];
}

function seesEveryProcess(): boolean {
  try {
    return fs.readlinkSync("/proc/self/ns/pid") === SEES_EVERY_PROCESS;
  } catch {
    return false;
  }
}

function readTable(): LockTable {
  const readMs = performance.now();
  const before = process.threadCpuUsage();
  const locks = new Map<string, HeldLock[]>();
  for (const line of tableText().split("\n")) {
    // 7: POSIX  ADVISORY  READ 4711 fe:00:655361 128 128
    const [, type, , , pid, where, first, last] = line.trim().split(/\s+/);
    if (type !== "POSIX" || where === undefined) continue;
    const lock = { pid: Number(pid), first: Number(first), last: last === "EOF" ? Infinity : Number(last) };
    const others = locks.get(where);
    if (others) others.push(lock);
    else locks.set(where, [lock]);
  }
  // Not the time that others had the processor meanwhile: on a loaded machine whoever waits for a pin would wait for that.
  const { user, system } = process.threadCpuUsage(before);
  return { locks, readMs, tookMs: (user + system) / 1000 };
}

function tableText(): string {
  try {
    return fs.readFileSync(TABLE, "latin1");
  } catch {
    return "";
  }
}

function hex(value: number): string {
  return value.toString(16).padStart(2, "0");
}

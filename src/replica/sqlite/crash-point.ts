/**
 * The moments of an append at which a crash leaves something different behind. A test program passes a hook that
 * kills its own process at one of them; in service there is no hook.
 */
export type CrashPoint =
  | "wal-header"
  | "between-frames"
  | "frames"
  | "page-numbers"
  | "hash-table"
  | "header-copy-2"
  | "header-copy-1"
  | "commit"
  | "new-file"
  | "fsync"
  | "position";

export type CrashHook = (point: CrashPoint) => void;

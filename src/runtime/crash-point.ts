/**
 * Every moment between two effects at which a kill leaves something different behind. The tests run through this list
 * and kill an agent at each of them (test/fault/crash-points.test.ts).
 */
export const CRASH_POINTS = [
  // Start of a capture agent.
  "capture: state made",
  "keys: stored",
  "capture: log opened",
  "capture: head known",
  "capture: indexes replayed",
  "capture: indexes raised",
  "capture: pinned",
  "capture: session closed",
  // Copy or repair.
  "copy: begun",
  "copy: slice sent",
  "copy: all sent",
  "copy: closed",
  // What is sent, acknowledged and stored.
  "ship: part sent",
  "ship: commit sent",
  "ship: acknowledged",
  "ship: index stored",
  "scrub: repair sent",
  "mark: announced",
  "mark: acknowledged",
  "mark: noted",
  "heartbeat: sent",
  // Commits and files.
  "tree: index replayed",
  "tree: index recovered",
  "tree: directory listed",
  "tree: chunk said",
  "tree: large file read",
  "tree: sent",
  "tree: scanned",
  "tree: index half stored",
  "tree: index stored",
  "turnstile: files sent",
  "turnstile: commits sent",
  "turnstile: removals sent",
  // Pins.
  "pin: next taken",
  "pin: captured under both",
  "pin: handed over",
  "pin: let go",
  "pin: taken again",
  "settle: checkpointed",
  "settle: emptied",
  "way: captured",
  // Seal.
  "seal: checkpointed",
  "seal: captured first",
  "seal: locked",
  "seal: captured",
  "seal: let go",
  "seal: checkpointed locked",
  "seal: pinned",
  "seal: unlocked",
  // Writer thread of the embedded log.
  "log: made",
  "log: inserted",
  "log: committed",
  "log: rung",
  "log: trimmed",
  // An append of the replica's.
  "append: wal header",
  "append: between frames",
  "append: frames",
  "append: page numbers",
  "append: hash table",
  "append: header copy 2",
  "append: header copy 1",
  "append: unlocked",
  // The standby's files.
  "standby: reseed begun",
  "standby: claimed",
  "standby: new file made",
  "standby: between moves aside",
  "standby: old file gone",
  "standby: new file named",
  "standby: opened",
  "standby: spilled",
  "standby: checkpointed",
  "standby: synced",
  "standby: recorded",
  "standby: pages rewritten",
  "standby: index rebuilt",
  "standby: file rebuilt",
  // The standby's trees.
  "files: claimed",
  "files: staged",
  "files: one placed",
  "files: placed",
  "files: shown before commits",
  "files: commits shown",
  "files: removed",
  "files: synced",
  "files: committed",
  // Failover.
  "fence: recorded",
  "switchover: locked",
  "switchover: drained",
  "switchover: noted",
  "switchover: offered",
  "switchover: taken",
  "switchover: taken back",
  "switchover: offer read",
  "promote: log begun",
  "promote: epoch begun",
  "promote: seeded",
  "promote: role noted",
  "rejoin: fenced",
  "rejoin: divergence saved",
  "rejoin: database moved",
  "rejoin: database repaired",
  "rejoin: database placed",
  "rejoin: tree index made",
  "rejoin: tree saved",
  "rejoin: file moved",
  "rejoin: position recorded",
  "rejoin: role dropped",
  "rejoin: fence lifted",
  "rejoin: kept whole",
  // An application that is started, and what it lacks restored before.
  "exec: restored",
  "exec: trees placed",
  // What is written into a repository.
  "repository: pack stored",
  "repository: index stored",
  "repository: segment stored",
  "repository: base stored",
  "archive: contents stored",
  "base: contents stored",
  "base: verified",
  "base: remembered",
  // Retention.
  "expire: copied",
  "expire: marked",
  "expire: base removed",
  "expire: segment removed",
  "expire: index removed",
  "expire: pack removed",
  "expire: unmarked",
  // Trimming the log.
  "trim: decided",
  "trim: done",
  // A restore from a repository.
  "restore: taken over",
  "restore: block fetched",
  "restore: contents fetched",
  "restore: all fetched",
] as const;

export type CrashPoint = (typeof CRASH_POINTS)[number];

let passing: ((point: CrashPoint) => void) | undefined;

/** For tests, one in each thread. In service there is none, and a crash point does nothing. */
export function onCrashPoint(hook: (point: CrashPoint) => void): void {
  passing = hook;
}

export function crashPoint(point: CrashPoint): void {
  passing?.(point);
}

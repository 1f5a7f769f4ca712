import type { CrashPoint } from "../../../src/runtime/crash-point.ts";

/**
 * What must happen for a point to be passed. Every point has a scene: without one this does not compile, and a scene
 * that never comes to its point fails.
 *
 * first: the first start, with nothing there but the application.   restart: a start.   commits, parts, seals, rest, mark, quiet:
 * kinds of work.   The others are tests of their own.
 */
const SCENES = {
  "capture: state made": "first",
  "log: made": "first",
  "capture: log opened": "first",
  "capture: head known": "first",
  "capture: pinned": "first",
  "copy: begun": "first",
  "ship: part sent": "first",
  "copy: slice sent": "first",
  "copy: all sent": "first",
  "copy: closed": "first",
  "standby: claimed": "first",
  "standby: new file made": "first",
  "standby: old file gone": "first",
  "standby: new file named": "first",
  "standby: opened": "first",
  "capture: indexes replayed": "restart",
  "capture: indexes raised": "restart",
  "log: inserted": "commits",
  "log: committed": "commits",
  "log: rung": "commits",
  "ship: commit sent": "commits",
  "ship: acknowledged": "restart",
  "ship: index stored": "restart",
  "pin: next taken": "commits",
  "pin: captured under both": "commits",
  "pin: handed over": "commits",
  "append: wal header": "restart",
  "append: frames": "commits",
  "append: page numbers": "commits",
  "append: hash table": "commits",
  "append: header copy 2": "commits",
  "append: header copy 1": "commits",
  "append: unlocked": "commits",
  "standby: synced": "commits",
  "standby: recorded": "commits",
  "append: between frames": "parts",
  "standby: spilled": "parts",
  "standby: checkpointed": "parts",
  "settle: checkpointed": "rest",
  "mark: announced": "mark",
  "mark: acknowledged": "mark",
  "mark: noted": "mark",
  "heartbeat: sent": "quiet",
  "seal: checkpointed": "seals",
  "seal: captured first": "seals",
  "seal: locked": "seals",
  "seal: captured": "seals",
  "seal: let go": "seals",
  "seal: checkpointed locked": "seals",
  "seal: pinned": "seals",
  "seal: unlocked": "seals",
  "pin: taken again": "seals",
  "pin: let go": "blocked",
  "way: captured": "hurry",
  "settle: emptied": "alone",
  "capture: session closed": "replaced",
  "scrub: repair sent": "rot",
  "standby: pages rewritten": "rot on the standby",
  "standby: index rebuilt": "index damaged",
  "standby: file rebuilt": "standby's file gone",
  "standby: reseed begun": "reseed",
  "standby: between moves aside": "reseed",
  "log: trimmed": "trim",
  "files: claimed": "first of a tree",
  "files: staged": "trees",
  "files: one placed": "trees",
  "files: placed": "trees",
  "files: shown before commits": "trees",
  "files: commits shown": "trees",
  "files: removed": "trees",
  "files: synced": "trees",
  "files: committed": "trees",
  "tree: index recovered": "start with files",
  "tree: sent": "start with files",
  "tree: scanned": "start with files",
  "tree: index stored": "files",
  "turnstile: files sent": "files",
  "turnstile: commits sent": "files",
  "turnstile: removals sent": "files",
} as const satisfies Record<CrashPoint, string>;

type SceneName = (typeof SCENES)[CrashPoint];

/** Points of these scenes, in the order of the table. */
export function pointsOf(...scenes: readonly SceneName[]): CrashPoint[] {
  const points = Object.keys(SCENES) as CrashPoint[];
  return points.filter((point) => scenes.includes(SCENES[point]));
}

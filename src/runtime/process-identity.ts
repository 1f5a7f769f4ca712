import fs from "node:fs";

import { bootId } from "./boot-id.ts";
import { errnoOf } from "./errors.ts";

/** In `/proc/<pid>/stat`, behind the name in brackets: when the process began, in ticks since the machine was started. */
const START_FIELD = 19;

/**
 * This process and no other, ever: the machine's start, the namespaces in which a number and a time mean something, the
 * number, when it began. Undefined where the system does not tell, or the process is not there.
 */
export function processIdentity(pid: number = process.pid): string | undefined {
  const place = placeOf();
  const began = beginOf(pid);
  return place !== undefined && began !== undefined ? `${place} ${pid} ${began}` : undefined;
}

/** True only when it can be told: another machine's, another container's, or one that may not be looked at is not. */
export function isDead(identity: string): boolean {
  const words = identity.split(" ");
  const [pid = 0, began = 0] = words.splice(-2).map(Number);
  const place = placeOf();
  if (place === undefined || words.join(" ") !== place || !Number.isSafeInteger(pid) || pid <= 0) return false;
  if (!isThere(pid)) return true;
  const found = beginOf(pid);
  return found !== undefined && found !== began;
}

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errnoOf(error) !== "ESRCH";
  }
}

function placeOf(): string | undefined {
  const boot = bootId();
  try {
    // Of another namespace when that one's /proc is mounted here.
    if (fs.readlinkSync("/proc/self") !== String(process.pid)) return undefined;
    // Containers of one machine share its start, not their numbers; times are shown as of the namespace.
    const numbers = fs.readlinkSync("/proc/self/ns/pid");
    return boot === "" ? undefined : `${boot} ${numbers} ${timeNamespace()}`;
  } catch {
    return undefined;
  }
}

/** "-" before Linux 5.6. */
function timeNamespace(): string {
  try {
    return fs.readlinkSync("/proc/self/ns/time");
  } catch {
    return "-";
  }
}

/** -1: it has ended, and its parent has not asked for it. */
function beginOf(pid: number): number | undefined {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (fields[0] === "Z") return -1;
    const began = Number(fields[START_FIELD]);
    return Number.isSafeInteger(began) ? began : undefined;
  } catch {
    return undefined;
  }
}

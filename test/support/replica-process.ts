import path from "node:path";

import type { CrashPoint } from "../../src/runtime/crash-point.ts";
import { Process } from "./processes.ts";

const PROGRAM = path.join(import.meta.dirname, "replica-program.ts");

export interface ReplicaPlaces {
  /** Of the embedded log. */
  readonly log: string;
  readonly standby: string;
}

/** A replica in a process of its own, which dies when it passes `point` for the `count`th time. */
export function replicaProcess({ log, standby }: ReplicaPlaces, point?: CrashPoint, count = 1): Process {
  const dies = point === undefined ? [] : [point, String(count)];
  return new Process(process.execPath, [PROGRAM, log, standby, ...dies]);
}

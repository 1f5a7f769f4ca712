import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import type { RestoreProgress } from "../../../src/restore/carry-out.ts";

const PROGRAM = fileURLToPath(new URL("restore-program.ts", import.meta.url));

export interface Moment {
  readonly phase: RestoreProgress["phase"];
  readonly afterMs: number;
}

/**
 * Restores a log in a process of its own and kills it some time after it said that a phase begins. `more`: further arguments of the program.
 * Returns whether it was done before.
 */
export async function restoreAndKill(
  { phase, afterMs }: Moment,
  logDirectory: string,
  target: string,
  ...more: readonly string[]
): Promise<boolean> {
  const child = spawn(process.execPath, [PROGRAM, logDirectory, target, ...more], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const reached = Promise.withResolvers<void>();
  let output = "";
  child.stdout.on("data", (data: Buffer) => {
    output += data.toString();
    if (output.includes(`${phase}\n`)) reached.resolve();
  });
  const ended = once(child, "close");
  await Promise.race([reached.promise, ended]);
  await Promise.race([sleep(afterMs), ended]);
  child.kill("SIGKILL");
  const [code] = await ended;
  return code === 0;
}

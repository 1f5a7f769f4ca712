import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import type { Writable } from "node:stream";

import { sleep, systemClock } from "../runtime/clock.ts";
import { makeDirectory } from "../runtime/durable-directory.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { processIdentity } from "../runtime/process-identity.ts";
import { readIfThere, replaceFile } from "../runtime/replace-file.ts";

const LOOK_MS = 50;
/** Runs the command once a line comes; when its agent dies before, never. */
const GATE = 'read -r _ <&3 || exit 125; exec 3<&-; exec /bin/sh -c "$1"';

/** An application that an agent has started, and ends with. */
export class Application {
  /** What its shell ended with; 128 and the signal's number when a signal ended it. */
  readonly ended: Promise<number>;
  readonly #child: ChildProcess;

  /** `state`: of the agent, where it is noted what runs. */
  constructor(command: string, state: string) {
    // A group of its own: a signal reaches whatever the shell started, and a terminal's Ctrl-C comes through us alone.
    const stdio = ["inherit", "inherit", "inherit", "pipe"] as const;
    this.#child = spawn("/bin/sh", ["-c", GATE, "sh", command], { detached: true, stdio: [...stdio] });
    const note = noteFile(state);
    this.ended = once(this.#child, "exit").then(([code, signal]) => {
      fs.rmSync(note, { force: true });
      return typeof code === "number" ? code : 128 + os.constants.signals[signal as NodeJS.Signals];
    });
    this.ended.catch(() => undefined);
    // Without a process there are no pipes: `ended` says why.
    if (this.#child.pid === undefined) return;
    const gate = this.#child.stdio[3] as Writable;
    gate.on("error", () => undefined);
    try {
      // Before it runs: whoever comes after an agent that was killed here must find it.
      noteRunning(note, this.#child.pid);
    } catch (error) {
      gate.destroy();
      throw error;
    }
    gate.end("\n");
  }

  signal(signal: NodeJS.Signals): void {
    if (this.#child.pid !== undefined) signalGroup(this.#child.pid, signal);
  }

  /** SIGTERM, and after so long SIGKILL; resolves when it has ended. */
  async end(graceMs: number): Promise<void> {
    this.signal("SIGTERM");
    const over = new AbortController();
    const ended = this.ended.then(
      () => over.abort(),
      () => over.abort(),
    );
    await sleep(graceMs, over.signal);
    if (!over.signal.aborted) this.signal("SIGKILL");
    await ended;
  }
}

/** Ends the application of an agent that was killed: a second one must not run beside it. @throws AGENT_RUNNING */
export async function endFormer(state: string, graceMs: number): Promise<void> {
  const noted = readIfThere(noteFile(state));
  const { pid = 0, identity = "" } = noted === undefined ? {} : parse(noted);
  if (pid === 0 || identity === "" || identity !== processIdentity(pid)) return;
  signalGroup(pid, "SIGTERM");
  for (const untilMs = systemClock.monotonic() + graceMs; processIdentity(pid) === identity; await sleep(LOOK_MS)) {
    if (systemClock.monotonic() < untilMs) continue;
    throw new TidemarkError("AGENT_RUNNING", `process ${pid}, which an agent started that was killed, does not end`, {
      hint: "It is the application of the last run. End it, and start again.",
    });
  }
}

interface Noted {
  readonly pid?: number;
  readonly identity?: string;
}

function noteFile(state: string): string {
  return path.join(state, "application.json");
}

function noteRunning(file: string, pid: number): void {
  makeDirectory(path.dirname(file));
  replaceFile(file, `${JSON.stringify({ pid, identity: processIdentity(pid) ?? "" } satisfies Noted)}\n`, {
    mode: 0o600,
  });
}

function parse(text: string): Noted {
  try {
    return JSON.parse(text) as Noted;
  } catch {
    return {};
  }
}

function signalGroup(group: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-group, signal);
  } catch {
    // It has ended in this moment.
  }
}

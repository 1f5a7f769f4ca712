import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

import { TidemarkError } from "../runtime/errors.ts";
import { requireGoingOn } from "./history.ts";

/**
 * A program of ours in a process of its own, which answers one message with one: within a long statement SQLite cannot
 * be interrupted, and a command must stop at once when asked to.
 */
export class HelperProcess<Request extends object, Answer extends object> implements Disposable {
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown[]>;
  readonly #signal: AbortSignal;
  readonly #kill = (): void => void this.#child.kill("SIGKILL");
  #complaint = "";

  /** `name`: of a module beside this one, without its extension. @throws INTERRUPTED */
  constructor(name: string, signal: AbortSignal) {
    requireGoingOn(signal);
    // From a checkout Node runs the sources, from the package the compiled files.
    const extension = import.meta.url.endsWith(".ts") ? "ts" : "js";
    const path = fileURLToPath(new URL(`./${name}.${extension}`, import.meta.url));
    this.#child = fork(path, { execArgv: [], stdio: ["ignore", "ignore", "pipe", "ipc"] });
    this.#child.stderr?.on(
      "data",
      (data: Buffer) => (this.#complaint = (this.#complaint + data.toString()).slice(-2000)),
    );
    this.#ended = once(this.#child, "close");
    this.#ended.catch(() => undefined);
    this.#signal = signal;
    signal.addEventListener("abort", this.#kill, { once: true });
  }

  /** `what`: for the message when the process ends instead. @throws INTERRUPTED, IO */
  async ask(request: Request, what: string): Promise<Answer> {
    const answered = Promise.withResolvers<Answer>();
    const answer = (message: unknown): void => answered.resolve(message as Answer);
    this.#child.once("message", answer);
    try {
      this.#child.send(request, () => undefined);
      const answerOrEnd = await Promise.race([answered.promise, this.#ended]);
      requireGoingOn(this.#signal);
      if (!Array.isArray(answerOrEnd)) return answerOrEnd;
      throw failed(what, this.#complaint.trim() || `it ended with ${answerOrEnd.join(" ")}`);
    } finally {
      this.#child.off("message", answer);
    }
  }

  [Symbol.dispose](): void {
    this.#signal.removeEventListener("abort", this.#kill);
    this.#kill();
  }
}

function failed(what: string, evidence: string): TidemarkError {
  return new TidemarkError("IO", `${what} could not run: ${evidence}`, {
    hint: "Look whether memory or processes are short on this machine, then restore again.",
  });
}

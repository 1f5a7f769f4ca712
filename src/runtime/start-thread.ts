import path from "node:path";
import { Worker } from "node:worker_threads";

export interface ThreadOptions<Message> {
  /** For messages. */
  readonly what: string;
  readonly workerData?: unknown;
  readonly onMessage: (message: Message) => void;
  /** It threw, or ended; called for both. */
  readonly onEnd: (error: Error) => void;
}

/** Code of a thread: a module beside the one with this URL, from the sources or compiled as that one is. */
export function threadModule(besides: string, name: string): URL {
  return new URL(`./${name}${path.extname(besides)}`, besides);
}

/** Starts a thread that does not keep the process alive: an agent that has nothing else to do may end. */
export function startThread<Message>(
  module: URL,
  { what, workerData, onMessage, onEnd }: ThreadOptions<Message>,
): Worker {
  const worker = new Worker(module, { execArgv: [], workerData });
  worker.unref();
  worker.on("message", onMessage);
  worker.on("error", (error) => onEnd(error instanceof Error ? error : new Error(String(error))));
  worker.on("exit", () => onEnd(new Error(`${what} ended`)));
  return worker;
}

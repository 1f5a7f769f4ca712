/** One quickstart: its directory, its processes, and the command line run as a user would run it. */
import { basename, join } from "node:path";
import { type Finished, run, type Running, start } from "./quickstart-process.ts";
import type { ReaderReport } from "./quickstart-reader.ts";
import { readStatus, type Status } from "./quickstart-status.ts";
import type { View } from "./quickstart-view.ts";

const TIDEMARK = join(import.meta.dirname, "tidemark");

/** Something that was to be shown did not hold; the message is for people. */
export class QuickstartFailure extends Error {
  override readonly name = "QuickstartFailure";
}

export interface Session {
  /** Everything that this run writes lies here; removed at its end. */
  readonly directory: string;
  readonly database: string;
  readonly standbyDatabase: string;
  /** Files that belong to the database; undefined: none are protected. */
  readonly files: string | undefined;
  readonly standbyFiles: string | undefined;
  readonly view: View;
  /** Aborts on Ctrl-C, when time is up, and when a process ends that should not. */
  readonly signal: AbortSignal;
  readonly abort: (reason: Error) => void;
}

/** All that a command needs to know: the log and the agent's state lie under the standby unless told otherwise. */
const standbyFlags = ({ directory }: Session): string[] => ["--standby", join(directory, "standby")];

/** A process that must outlive what follows: when it ends by itself the session is over. */
export function keepRunning(session: Session, name: string, options: Parameters<typeof start>[0]): Running {
  const running = start(options);
  let stopping = false;
  const over = (how: string): void => {
    if (!stopping) session.abort(new QuickstartFailure(`${name} ended by itself (${how}):\n${running.complaint()}`));
  };
  running.ended.then(
    ({ code, signal }) => over(signal ?? `exit code ${code}`),
    (error: unknown) => over(String(error)),
  );
  const stop: Running["stop"] = () => {
    stopping = true;
    return running.stop();
  };
  return { ...running, stop, [Symbol.asyncDispose]: async () => void (await stop()) };
}

export interface Agent extends Running {
  /** Resolves with the agent's own ready line: the first copy is in the log, and on the standby. */
  readonly ready: Promise<string>;
}

export function startAgent(session: Session): Agent {
  const files = session.files === undefined ? [] : ["--files", session.files];
  const args = ["run", "--db", session.database, ...files, ...standbyFlags(session)];
  session.view.say(`$ ./scripts/tidemark ${args.join(" ")}`);
  const { promise: ready, resolve, reject } = Promise.withResolvers<string>();
  ready.catch(() => undefined);
  session.signal.addEventListener("abort", () => reject(session.signal.reason as Error), { once: true });
  const onLine = (line: string): void => {
    if (line.startsWith("ready")) resolve(line);
  };
  const running = keepRunning(session, "tidemark run", { command: TIDEMARK, args, onLine, stopWith: "SIGTERM" });
  return { ...running, ready };
}

export const statusOf = ({ directory }: Session): Promise<Status | undefined> =>
  readStatus(join(directory, "standby", ".tidemark"));

/** Resolves when the first copy is on the standby and proved equal. */
export async function untilVerified(session: Session, agent: Agent): Promise<void> {
  await agent.ready;
  const status = await statusOf(session);
  if (status?.standby?.verified !== true)
    throw new QuickstartFailure("the agent is ready, but its standby is not proved equal");
}

export function startReader(
  session: Session,
  kind: "shop" | "any",
): Running & { readonly latest: () => ReaderReport | undefined } {
  let latest: ReaderReport | undefined;
  const running = keepRunning(session, "the reader of the standby", {
    command: process.execPath,
    args: [
      join(import.meta.dirname, "quickstart-reader.ts"),
      session.standbyDatabase,
      kind,
      ...asList(session.standbyFiles),
    ],
    onLine: (line) => (latest = JSON.parse(line) as ReaderReport),
    stopWith: "end of input",
  });
  return { ...running, latest: () => latest };
}

export interface RestoreReport {
  readonly ok: boolean;
  readonly offset: number;
  readonly at: string;
  readonly databases: readonly {
    readonly name: string;
    readonly pages: number;
    readonly checksum: string;
    readonly integrity: string;
    readonly foreignKeys: string;
  }[];
  readonly files: { readonly count: number; readonly bytes: number };
  readonly consistent: boolean;
  readonly durationMs: number;
}

export interface Restored {
  readonly report: RestoreReport;
  readonly database: string;
  readonly files: string | undefined;
}

export async function restoreTo(session: Session, moment: Date): Promise<Restored> {
  const target = join(session.directory, "restored");
  const args = ["restore", ...standbyFlags(session), "--target", target, "--to", moment.toISOString(), "--json"];
  session.view.say(`$ ./scripts/tidemark ${args.join(" ")}`);
  const finished = await run(TIDEMARK, args, session.signal);
  const report = lastJson(finished, "tidemark restore") as RestoreReport;
  const files = session.files === undefined ? undefined : join(target, basename(session.files));
  return { report, database: join(target, basename(session.database)), files };
}

/** Resolves when every commit made before this call is on the standby. */
export async function syncStandby(session: Session): Promise<void> {
  const args = ["sync", "--applied", ...standbyFlags(session), "--json"];
  session.view.say(`$ ./scripts/tidemark ${args.join(" ")}`);
  lastJson(await run(TIDEMARK, args, session.signal), "tidemark sync");
}

function lastJson({ code, output, complaint }: Finished, command: string): unknown {
  if (code !== 0) throw new QuickstartFailure(`${command} failed with exit code ${code}:\n${complaint}`);
  return JSON.parse(output.at(-1) ?? "null");
}

/** Stops the agent as a service manager would, and insists on a clean end. */
export async function stopAgent(agent: Running): Promise<void> {
  const { code, signal } = await agent.stop();
  if (code !== 0) {
    throw new QuickstartFailure(`tidemark run stopped with ${signal ?? `exit code ${code}`}:\n${agent.complaint()}`);
  }
}

const asList = (value: string | undefined): string[] => (value === undefined ? [] : [value]);

export const count = (value: number, noun: string): string =>
  `${value.toLocaleString("en-US")} ${noun}${value === 1 ? "" : "s"}`;

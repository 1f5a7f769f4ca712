/** What stands beside the application while it is measured: nothing, Tidemark, or a peer. */
import fs from "node:fs";
import net from "node:net";
import path from "node:path";

import { Child, litestream, tidemark } from "./process.ts";

export type SubjectName = "nothing" | "embedded" | "nats" | "litestream" | "litestream-fast";

export interface Subject extends AsyncDisposable {
  readonly name: SubjectName;
  /** The processes whose cost is the subject's. */
  readonly processes: readonly { readonly title: string; readonly pid: number }[];
  /** Where `file` can be read on the standby; undefined when the subject has none. */
  readonly standbyOf: (file: string) => string | undefined;
  /** Directory in which a Litestream replica grows. */
  readonly replica: string | undefined;
}

export const TITLES: Readonly<Record<SubjectName, string>> = {
  nothing: "nothing (control)",
  embedded: "Tidemark, embedded log",
  nats: "Tidemark, NATS",
  litestream: "Litestream 0.3.13, default",
  "litestream-fast": "Litestream 0.3.13, sync-interval 10ms",
};

/** Starts it and resolves when it follows the databases. */
export async function startSubject(
  name: SubjectName,
  directory: string,
  databases: readonly string[],
): Promise<Subject> {
  switch (name) {
    case "nothing":
      return subject({ name, children: {}, stack: new AsyncDisposableStack() });
    case "embedded":
      return startEmbedded(directory, databases);
    case "nats":
      return startNats(directory, databases);
    case "litestream":
      return startLitestream(name, { directory, databases, interval: undefined });
    case "litestream-fast":
      return startLitestream(name, { directory, databases, interval: "10ms" });
    default:
      return name satisfies never;
  }
}

function subject(parts: {
  name: SubjectName;
  children: Readonly<Record<string, Child>>;
  stack: AsyncDisposableStack;
  standby?: string;
  replica?: string;
}): Subject {
  const { name, children, stack, standby, replica } = parts;
  return {
    name,
    processes: Object.entries(children).map(([title, { pid }]) => ({ title, pid })),
    standbyOf: (file) => (standby === undefined ? undefined : path.join(standby, path.basename(file))),
    replica,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

function databaseFlags(databases: readonly string[]): string[] {
  return databases.flatMap((file) => ["--db", file]);
}

async function startEmbedded(directory: string, databases: readonly string[]): Promise<Subject> {
  const standby = path.join(directory, "standby");
  const stack = new AsyncDisposableStack();
  const run = stack.use(tidemark(["run", "--set", "bench", ...databaseFlags(databases), "--standby", standby]));
  await run.says("ready");
  return subject({ name: "embedded", children: { run }, stack, standby });
}

async function startNats(directory: string, databases: readonly string[]): Promise<Subject> {
  const standby = path.join(directory, "standby");
  const stack = new AsyncDisposableStack();
  const port = await freePort();
  const store = path.join(directory, "nats");
  const server = stack.use(new Child("nats-server", ["-js", "-sd", store, "-a", "127.0.0.1", "-p", String(port)]));
  await listening(port);
  const common = ["--set", "bench", "--log", `nats://127.0.0.1:${port}`];
  const state = ["--state", path.join(directory, "state")];
  const capture = stack.use(tidemark(["capture", ...common, ...state, ...databaseFlags(databases)]));
  await capture.says("ready");
  const replica = stack.use(tidemark(["replica", ...common, "--standby", standby]));
  await replica.says("ready");
  return subject({ name: "nats", children: { capture, replica, "nats-server": server }, stack, standby });
}

async function startLitestream(
  name: SubjectName,
  options: { directory: string; databases: readonly string[]; interval: string | undefined },
): Promise<Subject> {
  const { directory, databases, interval } = options;
  const replica = path.join(directory, "replica");
  const entries = databases.map((file) =>
    [
      `  - path: ${file}`,
      ...(interval ? [`    monitor-interval: ${interval}`] : []),
      "    replicas:",
      `      - path: ${path.join(replica, path.basename(file))}`,
      ...(interval ? [`        sync-interval: ${interval}`] : []),
    ].join("\n"),
  );
  const config = path.join(directory, "litestream.yml");
  fs.writeFileSync(config, `dbs:\n${entries.join("\n")}\n`);
  const stack = new AsyncDisposableStack();
  const child = stack.use(litestream(["replicate", "-config", config]));
  const deadline = performance.now() + 60_000;
  while (!databases.every((file) => snapshotExists(path.join(replica, path.basename(file))))) {
    if (performance.now() > deadline) throw new Error(`Litestream made no snapshot:\n${child.output}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return subject({ name, children: { litestream: child }, stack, replica });
}

function snapshotExists(directory: string): boolean {
  if (!fs.existsSync(directory)) return false;
  return fs.readdirSync(directory, { recursive: true }).some((entry) => String(entry).endsWith(".snapshot.lz4"));
}

export async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => server.once("listening", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (typeof address !== "object" || address === null) throw new Error("no free port");
  return address.port;
}

export async function listening(port: number): Promise<void> {
  const deadline = performance.now() + 10_000;
  for (;;) {
    const socket = net.connect(port, "127.0.0.1");
    const up = await new Promise<boolean>((resolve) =>
      socket.once("connect", () => resolve(true)).once("error", () => resolve(false)),
    );
    socket.destroy();
    if (up) return;
    if (performance.now() > deadline) throw new Error("nats-server does not start");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

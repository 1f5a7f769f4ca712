/** (f) Processor and memory of a system in which nothing happens. */
import { usageOf } from "./process.ts";
import { startSubject, TITLES, type SubjectName } from "./subjects.ts";
import { mebibytes, percent, type Table } from "./table.ts";
import { pause, Workspace } from "./workspace.ts";

interface IdleOptions {
  readonly seconds: number;
  readonly counts: readonly number[];
  /** Ten seconds after it moved last a database is looked at less often; until then the start is measured, not idleness. */
  readonly settleSeconds: number;
}

export async function idle(options: IdleOptions): Promise<Table> {
  const rows: string[][] = [];
  for (const count of options.counts) {
    for (const name of ["embedded", "nats", "litestream"] as const) rows.push(await measure(name, count, options));
  }
  return {
    title: "Idle",
    method:
      `Share of one core over ${options.seconds} s in which nobody writes, from ${options.settleSeconds} s after the start on, when all has settled, ` +
      "and resident memory, of all processes of the subject together (for NATS: capture, replica and nats-server).",
    columns: ["", "databases", "of a core", "memory MiB"],
    rows,
  };
}

async function measure(name: SubjectName, count: number, options: IdleOptions): Promise<string[]> {
  const { seconds, settleSeconds } = options;
  using workspace = new Workspace();
  const files = Array.from({ length: count }, (_, i) => workspace.database(`db-${i}.db`, { rows: 10, rowBytes: 100 }));
  await using subject = await startSubject(name, workspace.directory, files);
  await pause(settleSeconds * 1000);
  const cpuMs = (): number => subject.processes.reduce((sum, { pid }) => sum + usageOf(pid).cpuMs, 0);
  const before = cpuMs();
  await pause(seconds * 1000);
  const share = (cpuMs() - before) / (seconds * 1000);
  const memory = subject.processes.reduce((sum, { pid }) => sum + usageOf(pid).rssBytes, 0);
  return [TITLES[name], String(count), percent(share), mebibytes(memory)];
}

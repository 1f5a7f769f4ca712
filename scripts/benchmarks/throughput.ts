/** (b) What the application keeps of its throughput, commit latency and worst stall. (d) The same with TRUNCATE checkpoints. */
import { program } from "./process.ts";
import { startSubject, TITLES, type SubjectName } from "./subjects.ts";
import { ms, percent, type Table } from "./table.ts";
import { Workspace } from "./workspace.ts";

interface AppReport {
  readonly commits: number;
  readonly perSecond: number;
  readonly busy: number;
  readonly worstStallMs: number;
  readonly p50: number;
  readonly p99: number;
}

const SUBJECTS: readonly SubjectName[] = ["nothing", "embedded", "nats", "litestream", "litestream-fast"];

/** Runs the apps beside the subject and adds their reports up: commits together, the worst of their stalls. */
async function run(name: SubjectName, seconds: number, apps: readonly (readonly string[])[]): Promise<AppReport> {
  using workspace = new Workspace();
  const file = workspace.database("app.db");
  await using _subject = await startSubject(name, workspace.directory, [file]);
  const running = apps.map((flags) => program("app.ts", [file, String(seconds), ...flags]));
  const reports = await Promise.all(running.map(async (app) => JSON.parse(await app.ended()) as AppReport));
  return reports.reduce((sum, one) => ({
    commits: sum.commits + one.commits,
    perSecond: sum.perSecond + one.perSecond,
    busy: sum.busy + one.busy,
    worstStallMs: Math.max(sum.worstStallMs, one.worstStallMs),
    p50: Math.max(sum.p50, one.p50),
    p99: Math.max(sum.p99, one.p99),
  }));
}

/** The median run of three by throughput: one run on a small machine says little. */
async function median(name: SubjectName, seconds: number, apps: readonly (readonly string[])[]): Promise<AppReport> {
  const runs = [await run(name, seconds, apps), await run(name, seconds, apps), await run(name, seconds, apps)];
  return runs.toSorted((a, b) => a.perSecond - b.perSecond)[1] as AppReport;
}

export async function throughput(options: { seconds: number }): Promise<Table> {
  const rows: string[][] = [];
  for (const [load, flags] of [
    ["200/s", ["--rate", "200"]],
    ["full speed", []],
  ] as const) {
    let control = NaN;
    for (const name of SUBJECTS) {
      const found = await median(name, options.seconds, [flags]);
      if (name === "nothing") control = found.perSecond;
      rows.push([TITLES[name], load, ...cells(found, control)]);
    }
  }
  return {
    title: "What the application keeps",
    method:
      "One writer, 200-byte rows, synchronous=NORMAL. Commits a second, the share of the control run's, the latency of a commit and the " +
      "worst stall in milliseconds, and SQLITE_BUSY errors. Median of three runs by throughput.",
    columns: ["beside the app", "load", "commits/s", "kept", "p50", "p99", "worst stall", "BUSY"],
    rows,
  };
}

export async function truncating(options: { seconds: number }): Promise<Table> {
  const apps = [1, 2].map(() => ["--autocheckpoint", "50", "--truncate-every", "2000"]);
  const rows: string[][] = [];
  let control = NaN;
  for (const name of SUBJECTS) {
    const found = await median(name, options.seconds, apps);
    if (name === "nothing") control = found.perSecond;
    rows.push([TITLES[name], ...cells(found, control)]);
  }
  return {
    title: "An application that truncates its WAL",
    method:
      "Two writers at full speed, autocheckpoint 50, each with wal_checkpoint(TRUNCATE) every 2,000 commits. Columns as above.",
    columns: ["beside the app", "commits/s", "kept", "p50", "p99", "worst stall", "BUSY"],
    rows,
  };
}

function cells(found: AppReport, control: number): string[] {
  const { perSecond, p50, p99, worstStallMs, busy } = found;
  return [perSecond.toFixed(0), percent(perSecond / control), ms(p50), ms(p99), ms(worstStallMs), String(busy)];
}

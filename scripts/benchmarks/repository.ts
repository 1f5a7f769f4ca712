/** What a repository costs: bytes of a base when little changed, memory while archiving, requests. */
import fs from "node:fs";

import { archived, baseIsThere, statusOf } from "./archives.ts";
import { program, tidemark, tidemarkOutput, usageOf } from "./process.ts";
import { changePages } from "./sustained.ts";
import { mebibytes, percent, type Table } from "./table.ts";
import { pause, Workspace } from "./workspace.ts";

const PAGE_BYTES = 4096;
const BUSY_RATE = 50;
const HOUR_S = 3600;
const READY_MS = 600_000;

interface Running extends AsyncDisposable {
  readonly pid: number;
  /** Arguments of commands that ask it. */
  readonly where: readonly string[];
}

async function running(workspace: Workspace, file: string): Promise<Running> {
  const where = ["--set", "bench", "--standby", workspace.path("standby")];
  const run = tidemark(["run", ...where, "--db", file, "--repository", workspace.path("repository")]);
  await run.says("ready", READY_MS);
  await baseIsThere(where);
  return { pid: run.pid, where, [Symbol.asyncDispose]: () => run.stop() };
}

export async function baseCost(options: { mebibytes: number }): Promise<Table> {
  using workspace = new Workspace();
  const file = workspace.database("app.db", { rows: options.mebibytes * 256, rowBytes: 3900 });
  const { size } = fs.statSync(file);
  await using run = await running(workspace, file);
  changePages(file, Math.round(size / PAGE_BYTES / 100));
  await archived(run.where);
  const output = await tidemarkOutput(["base", "create", ...run.where, "--json"]);
  const { bases } = JSON.parse(output) as { bases: readonly { bytesNew: number; durationMs: number }[] };
  const { bytesNew = NaN, durationMs = NaN } = bases[0] ?? {};
  const { peakRssBytes } = usageOf(run.pid);
  return {
    title: "A base when little changed",
    method:
      "1 % of the pages, picked at random, change; then a base is made. Bytes that it stores, the manifest apart, and their share of the database; and the memory of `run` at its peak, with the first copy, archive and both bases, in MiB.",
    columns: ["database MiB", "stored MiB", "of the database", "s", "memory"],
    rows: [
      [
        mebibytes(size),
        mebibytes(bytesNew),
        percent(bytesNew / size),
        (durationMs / 1000).toFixed(1),
        mebibytes(peakRssBytes),
      ],
    ],
  };
}

export async function requests(options: { seconds: number }): Promise<Table> {
  using workspace = new Workspace();
  const file = workspace.database("app.db");
  await using run = await running(workspace, file);
  await archived(run.where);
  const counted = async (): Promise<number> => (await statusOf(run.where)).repositories[0]?.requests ?? NaN;
  const idleBefore = await counted();
  await pause(options.seconds * 1000);
  const idle = (await counted()) - idleBefore;
  const busyBefore = await counted();
  await program("app.ts", [file, String(options.seconds), "--rate", String(BUSY_RATE)]).ended();
  const busy = (await counted()) - busyBefore;
  const anHour = (count: number): string => String(Math.round((count * HOUR_S) / options.seconds));
  return {
    title: "Requests to a repository",
    method: `What \`status\` counts over ${options.seconds} s, for an hour: while nobody writes, and with ${BUSY_RATE} commits a second. A base an hour, and a segment of heartbeats every ten minutes, come on top.`,
    columns: ["", "requests an hour"],
    rows: [
      ["idle", anHour(idle)],
      [`${BUSY_RATE} commits/s`, anHour(busy)],
    ],
  };
}

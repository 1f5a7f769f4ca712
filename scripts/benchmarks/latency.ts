/** (a) From COMMIT returning in the app to the row being readable on the standby. */
import fs from "node:fs";

import { quantiles, type Quantiles } from "./measure.ts";
import { program } from "./process.ts";
import { startSubject, TITLES, type Subject, type SubjectName } from "./subjects.ts";
import { ms, ratio, type Table } from "./table.ts";
import { pause, Workspace } from "./workspace.ts";

const NS_A_MS = 1e6;

export async function latency(options: { seconds: number; rates: readonly number[] }): Promise<Table> {
  const rows: string[][] = [];
  for (const rate of options.rates) {
    const base = await measure("litestream", { rate, seconds: options.seconds });
    for (const name of ["embedded", "nats", "litestream", "litestream-fast"] as const) {
      const found = name === "litestream" ? base : await measure(name, { rate, seconds: options.seconds });
      rows.push([TITLES[name], String(rate), ms(found.p50), ms(found.p99), ms(found.max), ratio(base.p50, found.p50)]);
    }
  }
  return {
    title: "Commit to standby",
    method:
      "Milliseconds from COMMIT returning in the application until another process reads the row on the standby (Tidemark), " +
      "or until the replica file that holds the commit stands in the replica directory (Litestream, which has no standby to read: " +
      "a restore would come on top). The last column is how many times sooner than Litestream's default, by the medians.",
    columns: ["", "commits/s", "p50", "p99", "max", "sooner"],
    rows,
  };
}

async function measure(name: SubjectName, load: { rate: number; seconds: number }): Promise<Quantiles> {
  using workspace = new Workspace();
  const file = workspace.database("app.db");
  await using subject = await startSubject(name, workspace.directory, [file]);
  const times = workspace.path("times");
  // At one commit a second a few seconds are few commits.
  const seconds = Math.max(load.seconds, 8 / load.rate);
  const seen = watch(subject, file, workspace);
  await seen.ready;
  await program("app.ts", [file, String(seconds), "--rate", String(load.rate), "--times", times]).ended();
  await pause(3000);
  const visible = await seen.stop();
  return quantiles(delays(pairs(fs.readFileSync(times)), visible));
}

type Pair = readonly [number, number];

interface Sighting {
  readonly row?: number;
  readonly atNs: number;
}

/** When each row was first there: rows are in order, so the first sighting of a later row covers the earlier ones. */
function delays(committed: readonly Pair[], sightings: readonly Sighting[]): number[] {
  let at = 0;
  return committed.map(([row, committedNs]) => {
    while (sightings[at] && !covers(sightings[at], row, committedNs)) at += 1;
    return Math.max(0, (sightings[at]?.atNs ?? Infinity) - committedNs) / NS_A_MS;
  });
}

/** Without a row number a sighting covers everything that was committed before it. */
function covers(sighting: Sighting | undefined, row: number, committedNs: number): boolean {
  return sighting?.row === undefined ? (sighting?.atNs ?? 0) >= committedNs : sighting.row >= row;
}

interface Watch {
  readonly ready: Promise<void>;
  readonly stop: () => Promise<Sighting[]>;
}

function watch(subject: Subject, file: string, workspace: Workspace): Watch {
  const standby = subject.standbyOf(file);
  return standby === undefined ? watchReplica(subject.replica ?? "") : watchStandby(standby, workspace.path("seen"));
}

function watchStandby(standby: string, out: string): Watch {
  const reader = program("reader.ts", [standby, out]);
  return {
    ready: reader.says("reading"),
    stop: async () => {
      await reader[Symbol.asyncDispose]();
      return pairs(fs.readFileSync(out)).map(([row, atNs]) => ({ row, atNs }));
    },
  };
}

/**
 * A WAL segment in a Litestream replica appears by a rename, complete. Which commits it holds is not read from it: the
 * benefit of the doubt is given, and everything committed before the rename counts as held.
 */
function watchReplica(directory: string): Watch {
  const renames: number[] = [];
  const watcher = fs.watch(directory, { recursive: true }, (_event, name) => {
    if (name?.endsWith(".wal.lz4")) renames.push(Number(process.hrtime.bigint()));
  });
  return {
    ready: Promise.resolve(),
    stop: async () => {
      watcher.close();
      return renames.map((atNs) => ({ atNs }));
    },
  };
}

function pairs(bytes: Buffer): Pair[] {
  const numbers = new Float64Array(Uint8Array.from(bytes).buffer);
  return Array.from({ length: numbers.length / 2 }, (_, i) => [numbers[2 * i] ?? 0, numbers[2 * i + 1] ?? 0] as const);
}

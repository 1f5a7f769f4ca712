/** File trees: the first capture, a change until it is on the standby, bytes stored for versions, memory. */
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

import { pauseMs, quantiles, type Quantiles } from "./measure.ts";
import { Child, tidemark, tidemarkOutput, usageOf } from "./process.ts";
import { mebibytes, ms, ratio, type Table } from "./table.ts";
import { bytesUnder, editFile, largeFiles, readAll, smallFiles } from "./trees.ts";
import { pause, Workspace } from "./workspace.ts";

const PASSWORD = { RESTIC_PASSWORD: "benchmark" };
const READY_MS = 600_000;

export async function firstCapture(options: { small: number; largeMebibytes: number }): Promise<Table> {
  using workspace = new Workspace();
  const small = workspace.path("small");
  const large = workspace.path("large");
  smallFiles(small, options.small);
  largeFiles(large, { count: 32, mebibytes: options.largeMebibytes / 32 });
  const rows: string[][] = [];
  for (const [title, tree] of [
    [`${options.small} small files`, small],
    [`${options.largeMebibytes} MiB in 32 files`, large],
  ] as const) {
    const found = await timed(tree, [
      async (at) => captureOnce(tree, at),
      async (at) => commandOnce(() => resticBackup(tree, path.join(at, "repository"))),
      async (at) => commandOnce(() => void execFileSync("rsync", ["-a", `${tree}/`, path.join(at, "copy")])),
    ]);
    for (const [at, name] of ["Tidemark capture, embedded log", "restic backup", "rsync -a"].entries()) {
      const seconds = found[at] ?? NaN;
      rows.push([name, title, seconds.toFixed(1), ratio(seconds, found[1] ?? NaN)]);
    }
  }
  return {
    title: "First capture of a tree",
    method:
      "Medians of three, in turn. Seconds from the start of the program until the tree is in the log (Tidemark, fsynced), in a new repository (restic) or in a directory (rsync, not verified). " +
      "The tree is read just before. Small files are 1 to 8 KiB; all contents are incompressible.",
    columns: ["", "tree", "s", "of restic"],
    rows,
  };
}

/** Medians of three, in turn, each into a fresh directory, with the tree read just before. */
async function timed(tree: string, works: readonly ((directory: string) => Promise<number>)[]): Promise<number[]> {
  const found: number[][] = works.map(() => []);
  for (let round = 0; round < 3; round += 1) {
    for (const [at, work] of works.entries()) {
      using workspace = new Workspace();
      readAll(tree);
      execFileSync("sync");
      found[at]?.push(await work(workspace.directory));
    }
  }
  return found.map((seconds) => quantiles(seconds).p50);
}

/** Until it is done, not until it has ended. */
async function captureOnce(tree: string, directory: string): Promise<number> {
  const startedMs = performance.now();
  await using capture = startCapture(tree, directory);
  await capture.says("ready", READY_MS);
  return secondsSince(startedMs);
}

async function commandOnce(work: () => void): Promise<number> {
  const startedMs = performance.now();
  work();
  return secondsSince(startedMs);
}

function secondsSince(startedMs: number): number {
  return (performance.now() - startedMs) / 1000;
}

function startCapture(tree: string, directory: string): Child {
  const state = path.join(directory, "state");
  return tidemark(["capture", "--set", "bench", "--files", tree, "--log", logOf(directory), "--state", state]);
}

function logOf(directory: string): string {
  return `embedded:${path.join(directory, "log")}`;
}

function resticBackup(tree: string, repository: string): void {
  const restic = (...args: string[]): void =>
    void execFileSync("restic", ["--repo", repository, "--no-cache", "--quiet", ...args], {
      env: { ...process.env, ...PASSWORD },
    });
  if (!fs.existsSync(repository)) restic("init");
  restic("backup", tree);
}

export async function fileLatency(options: { changes: number; slowChanges: number }): Promise<Table> {
  const rows: string[][] = [];
  const lsyncd = await changesSeen(options.slowChanges, (from, to, at) =>
    startLsyncd({ from, to, at, delay: undefined }),
  );
  const subjects = [
    ["Tidemark run, embedded log", await changesSeen(options.changes, startRun)],
    ["lsyncd, default (delay 15 s)", lsyncd],
    ["lsyncd, delay 0", await changesSeen(options.changes, (from, to, at) => startLsyncd({ from, to, at, delay: 0 }))],
  ] as const;
  for (const [name, found] of subjects)
    rows.push([name, ms(found.p50), ms(found.p99), ms(found.max), ratio(lsyncd.p50, found.p50)]);
  return {
    title: "File change to standby",
    method:
      "Milliseconds from the close of a small new file until it is on the standby with its content, files written one after the other with pauses of 50 to 250 ms; beside lsyncd with rsync on the same disk.",
    columns: ["", "p50", "p99", "max", "sooner"],
    rows,
  };
}

type Start = (from: string, to: string, directory: string) => Promise<Child>;

async function changesSeen(count: number, start: Start): Promise<Quantiles> {
  using workspace = new Workspace();
  const from = workspace.path("uploads");
  const standby = workspace.path("standby");
  const to = path.join(standby, "uploads");
  smallFiles(from, 200);
  fs.mkdirSync(standby);
  await using _subject = await start(from, to, workspace.directory);
  const delays: number[] = [];
  for (let i = 0; i < count; i += 1) {
    await pause(50 + Math.random() * 200);
    const content = `change ${i} ${"x".repeat(1000)}`;
    fs.writeFileSync(path.join(from, `change-${i}`), content);
    const closedMs = performance.now();
    while (!holds(path.join(to, `change-${i}`), content.length)) {
      if (performance.now() - closedMs > 60_000) throw new Error(`change ${i} never came`);
      pauseMs(0.5);
    }
    delays.push(performance.now() - closedMs);
  }
  return quantiles(delays);
}

function holds(file: string, bytes: number): boolean {
  return fs.statSync(file, { throwIfNoEntry: false })?.size === bytes;
}

const startRun: Start = async (from, to, directory) => {
  const state = path.join(directory, "state");
  const run = tidemark(["run", "--set", "bench", "--files", from, "--standby", path.dirname(to), "--state", state]);
  await run.says("ready");
  return run;
};

async function startLsyncd(options: {
  from: string;
  to: string;
  at: string;
  delay: number | undefined;
}): Promise<Child> {
  const { from, to, at, delay } = options;
  const config = path.join(at, "lsyncd.lua");
  const delayLine = delay === undefined ? "" : `, delay = ${delay}`;
  fs.writeFileSync(
    config,
    `settings { nodaemon = true }\nsync { default.rsync, source = "${from}", target = "${to}"${delayLine} }\n`,
  );
  const lsyncd = new Child("lsyncd", ["-nodaemon", config]);
  const deadline = performance.now() + 30_000;
  while (!holds(path.join(to, "d1", "f199"), fs.statSync(path.join(from, "d1", "f199")).size)) {
    if (performance.now() > deadline)
      throw new Error(`lsyncd did not copy the tree:\n${lsyncd.output}${lsyncd.errors}`);
    await pause(20);
  }
  await pause(1000);
  return lsyncd;
}

export async function fileVersions(options: { mebibytes: number; versions: number }): Promise<Table> {
  using workspace = new Workspace();
  const tree = workspace.path("tree");
  const repository = workspace.path("repository");
  largeFiles(tree, { count: 1, mebibytes: options.mebibytes });
  await using capture = startCapture(tree, workspace.directory);
  await capture.says("ready", READY_MS);
  resticBackup(tree, repository);
  for (let version = 2; version <= options.versions; version += 1) {
    editFile(path.join(tree, "large-0"));
    await tidemarkOutput(["sync", "--state", workspace.path("state")]);
    resticBackup(tree, repository);
  }
  const ours = await eventBytes(workspace.directory);
  const restic = bytesUnder(repository);
  return {
    title: "Versions of a large file",
    method: `Bytes stored for ${options.versions} versions of a file of ${options.mebibytes} MiB, each with eight places of 1 KiB overwritten and 100 bytes put in: all events of the log, all files of restic's repository.`,
    columns: ["", "MiB", "of restic"],
    rows: [
      ["Tidemark, log", mebibytes(ours), ratio(ours, restic)],
      ["restic, repository", mebibytes(restic), ratio(restic, restic)],
    ],
  };
}

async function eventBytes(directory: string): Promise<number> {
  const output = await tidemarkOutput(["log", "--log", logOf(directory), "--set", "bench", "--json"]);
  const lines = output.split("\n").filter((line) => line !== "");
  return lines.reduce((sum, line) => sum + (JSON.parse(line) as { bytes: number }).bytes, 0);
}

export async function fileMemory(options: { files: number }): Promise<Table> {
  using workspace = new Workspace();
  const tree = workspace.path("tree");
  smallFiles(tree, options.files);
  await using capture = startCapture(tree, workspace.directory);
  await capture.says("ready", READY_MS);
  const first = usageOf(capture.pid);
  fs.writeFileSync(path.join(tree, "d0", "one-more"), "one more");
  await tidemarkOutput(["sync", "--timeout", "10m", "--state", workspace.path("state")]);
  await pause(2000);
  const { rssBytes, peakRssBytes } = usageOf(capture.pid);
  return {
    title: "Memory with many files",
    method: `Resident memory of \`capture\` with ${options.files} files, in MiB: after the first scan, after one more change, and at its peak.`,
    columns: ["", "first scan done", "following", "peak"],
    rows: [["Tidemark capture, embedded log", mebibytes(first.rssBytes), mebibytes(rssBytes), mebibytes(peakRssBytes)]],
  };
}

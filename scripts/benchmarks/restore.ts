/** Restores of a database and of files from a directory on the same disk. */
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

import {
  type Archive,
  type Source,
  archivedByLitestream,
  archivedByRestic,
  archivedByTidemark,
  updatableDatabase,
  type Updates,
} from "./archives.ts";
import { quantiles } from "./measure.ts";
import { Child, usageOf } from "./process.ts";
import { mebibytes, ratio, type Table } from "./table.ts";
import { smallFiles } from "./trees.ts";
import { pause, Workspace } from "./workspace.ts";

const ROUNDS = 3;
const PHASES_OF_PROOF = ["check", "verify"];
const METHOD =
  "Median of three restores, from a directory on the same disk, all of which is read just before. Seconds until the restored data is durable (for the others, which do not sync: `sync` of the target afterwards), without and with the verification of the result (Tidemark only: " +
  "integrity_check, foreign_key_check, every byte read back and proved; restic and Litestream do none). Memory: resident, at its peak, in MiB.";

interface Figures {
  readonly seconds: number;
  /** Of the result, on top. */
  readonly proofSeconds: number;
  readonly peakBytes: number;
}

export async function restoreDatabase(options: { mebibytes: number; updates: Updates }): Promise<Table> {
  const rows: string[][] = [];
  for (const updates of [undefined, options.updates]) {
    using workspace = new Workspace();
    const archives = await archivedDatabase(workspace, options.mebibytes, updates);
    const what = updates ? `and ${updates.count} small updates` : `database of ${options.mebibytes} MiB`;
    rows.push(...(await measured(archives, what)));
  }
  return {
    title: "Restore of a database",
    method: `${METHOD} The updates change one small random row each, ${options.updates.rate} commits a second; \`cp\` copies the database. Stored: what the updates added, in MiB.`,
    columns: ["", "", "s", "of Litestream", "with proof s", "memory", "stored"],
    rows,
  };
}

async function archivedDatabase(workspace: Workspace, size: number, updates: Updates | undefined): Promise<Archive[]> {
  const original = updatableDatabase(workspace, size);
  const fresh = (name: string): Source => {
    const directory = workspace.path(name);
    fs.mkdirSync(directory);
    const place = path.join(directory, "app.db");
    fs.copyFileSync(original, place);
    return { directory, place };
  };
  const ofPeer = await archivedByLitestream(fresh("litestream"), updates);
  const own = await archivedByTidemark(fresh("tidemark"), updates);
  if (updates) return [ofPeer, own];
  return [ofPeer, own, archivedByRestic(original, workspace.path("restic")), copyOf(original)];
}

export async function restoreFiles(options: { files: number }): Promise<Table> {
  using workspace = new Workspace();
  const tree = workspace.path("files");
  smallFiles(tree, options.files);
  const restic = archivedByRestic(tree, workspace.path("restic"));
  const own = await archivedByTidemark({ directory: workspace.path("tidemark"), place: tree });
  const rows = (await measured([restic, own, copyOf(tree)], `${options.files} small files`)).map((row) =>
    row.slice(0, -1),
  );
  return {
    title: "Restore of files",
    method: METHOD,
    columns: ["", "", "s", "of restic", "with proof s", "memory"],
    rows,
  };
}

function copyOf(source: string): Archive {
  const restore = (target: string): Child => new Child("cp", ["-a", source, target]);
  return { title: "cp -a", addedBytes: NaN, peakBytes: NaN, place: source, restore };
}

/** The first is what the others are compared with. */
async function measured(archives: readonly Archive[], what: string): Promise<string[][]> {
  const rows: string[][] = [];
  let first = NaN;
  for (const archive of archives) {
    const { seconds, proofSeconds, peakBytes } = await restored(archive);
    if (rows.length === 0) first = seconds;
    const proof = proofSeconds > 0 ? (seconds + proofSeconds).toFixed(1) : "–";
    const { addedBytes } = archive;
    const stored = Number.isNaN(addedBytes) ? "–" : mebibytes(addedBytes);
    rows.push([archive.title, what, seconds.toFixed(1), ratio(seconds, first), proof, mebibytes(peakBytes), stored]);
  }
  return rows;
}

async function restored(archive: Archive): Promise<Figures> {
  const found: Figures[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    using workspace = new Workspace();
    found.push(await restoreOnce(archive, workspace.path("target")));
  }
  const median = (of: keyof Figures): number => quantiles(found.map((one) => one[of])).p50;
  return { seconds: median("seconds"), proofSeconds: median("proofSeconds"), peakBytes: median("peakBytes") };
}

async function restoreOnce(archive: Archive, target: string): Promise<Figures> {
  // Some kernels give up the page cache of what nobody has used for seconds, while the archive before was restored.
  execFileSync("sh", ["-c", 'find "$0" -type f -exec cat {} + > /dev/null', archive.place]);
  execFileSync("sync");
  const startedMs = performance.now();
  await using child = archive.restore(target);
  let peakBytes = 0;
  while (!child.hasEnded) {
    peakBytes = Math.max(peakBytes, peakOf(child.pid));
    await pause(20);
  }
  const output = await child.ended();
  execFileSync("sync", ["-f", target]);
  const seconds = (performance.now() - startedMs) / 1000;
  const proofSeconds = proofOf(output);
  return { seconds: seconds - proofSeconds, proofSeconds, peakBytes };
}

/** 0 when it is gone. */
function peakOf(pid: number): number {
  try {
    return usageOf(pid).peakRssBytes || 0;
  } catch {
    return 0;
  }
}

function proofOf(output: string): number {
  const line = output.trim().split("\n").at(-1) ?? "";
  if (!line.startsWith("{")) return 0;
  const { phasesMs } = JSON.parse(line) as { phasesMs: Readonly<Record<string, number>> };
  return PHASES_OF_PROOF.reduce((sum, phase) => sum + (phasesMs[phase] ?? 0), 0) / 1000;
}

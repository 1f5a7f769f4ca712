/** Restores of a database and of files from a directory on the same disk. */
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
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
import { readAll, smallFiles } from "./trees.ts";
import { pause, Workspace } from "./workspace.ts";

const ROUNDS = 3;
const PHASES_OF_PROOF = ["check", "verify"];
const METHOD =
  "Median of three restores each, in turn, from a directory on the same disk, all of which is read just before. " +
  "Fresh: on memory that nobody used for five seconds, which the hosts of some virtual machines have taken back by then and must provide again; ready: on memory that was in use a moment before. Seconds until the restored data is durable (for the others, which do not sync: `sync` of the target afterwards), without and with the verification of the result (Tidemark only: " +
  "integrity_check, foreign_key_check, every byte read back and proved; restic and Litestream do none). Memory: resident, at its peak, in MiB.";

/** What memory is like that a restore gets for its page cache. */
type Memory = "fresh" | "ready";
const FRESH_MS = 5000;
const READY_BYTES = 3 * 1024 * 1024 * 1024;

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
    columns: ["", "", "s, fresh", "of Litestream", "s, ready", "of Litestream", "proof s", "memory", "stored"],
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
    columns: ["", "", "s, fresh", "of restic", "s, ready", "of restic", "proof s", "memory"],
    rows,
  };
}

function copyOf(source: string): Archive {
  const restore = (target: string): Child => new Child("cp", ["-a", source, target]);
  return { title: "cp -a", addedBytes: NaN, peakBytes: NaN, place: source, restore };
}

/** The first is what the others are compared with. */
async function measured(archives: readonly Archive[], what: string): Promise<string[][]> {
  const found = archives.map(() => ({ fresh: [] as Figures[], ready: [] as Figures[] }));
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const memory of ["fresh", "ready"] as const) {
      for (const [at, archive] of archives.entries()) {
        using workspace = new Workspace();
        if (memory === "fresh") await pause(FRESH_MS);
        // Some kernels give up the page cache of what nobody has used for seconds, while the archive before was restored.
        readAll(archive.place);
        if (memory === "ready") use(workspace.path("scratch"));
        found[at]?.[memory].push(await restoreOnce(archive, workspace.path("target")));
      }
    }
  }
  const medianOf = (figures: readonly Figures[] = [], of: keyof Figures): number =>
    quantiles(figures.map((one) => one[of])).p50;
  return archives.map(({ title, addedBytes }, at) => {
    const seconds = (memory: Memory): string[] => {
      const [own, first] = [found[at], found[0]].map((one) => medianOf(one?.[memory], "seconds"));
      return [(own ?? NaN).toFixed(1), ratio(own ?? NaN, first ?? NaN)];
    };
    const all = [...(found[at]?.fresh ?? []), ...(found[at]?.ready ?? [])];
    const proof = medianOf(all, "proofSeconds");
    return [
      title,
      what,
      ...seconds("fresh"),
      ...seconds("ready"),
      proof > 0 ? proof.toFixed(1) : "–",
      mebibytes(medianOf(all, "peakBytes")),
      Number.isNaN(addedBytes) ? "–" : mebibytes(addedBytes),
    ];
  });
}

/** Much memory, and no longer. */
function use(scratch: string): void {
  const bytes = Math.min(READY_BYTES, Math.floor(os.freemem() / 2));
  execFileSync("sh", ["-c", 'head -c "$1" /dev/zero > "$0" && rm "$0"', scratch, String(bytes)]);
}

async function restoreOnce(archive: Archive, target: string): Promise<Figures> {
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

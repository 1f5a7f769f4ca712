/** Runs the scenarios one after the other and prints their tables; a full run writes docs/benchmarks.md. */
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";

import { fileLatency, fileMemory, fileVersions, firstCapture } from "./files.ts";
import { idle } from "./idle.ts";
import { memory } from "./memory.ts";
import { latency } from "./latency.ts";
import { promote } from "./promote.ts";
import { repair, sustained } from "./sustained.ts";
import { baseCost, requests } from "./repository.ts";
import { restoreDatabase, restoreFiles } from "./restore.ts";
import { markdown, type Table } from "./table.ts";
import { throughput, truncating } from "./throughput.ts";

const HELP = `Usage: scripts/bench [--quick] [--only NAME[,NAME…]]

Scenarios: latency, throughput, sustained, truncating, repair, memory, idle, first-capture, file-latency, file-versions,
file-memory, restore, restore-files, base-cost, requests, promote. A full run writes docs/benchmarks.md.
`;

const { values } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    only: { type: "string" },
    help: { type: "boolean", default: false },
  },
});

const quick = values.quick;
const SCENARIOS: Readonly<Record<string, () => Promise<Table>>> = {
  latency: () => latency(quick ? { seconds: 3, rates: [200] } : { seconds: 5, rates: [1, 50, 200] }),
  throughput: () => throughput({ seconds: quick ? 1 : 3 }),
  sustained: () => sustained({ mebibytes: quick ? 64 : 512 }),
  truncating: () => truncating({ seconds: quick ? 1 : 4 }),
  repair: () => repair({ mebibytes: quick ? 64 : 1024 }),
  memory: () => memory(quick ? { mebibytes: 64, seconds: 3 } : { mebibytes: 1024, seconds: 5 }),
  idle: () =>
    idle(
      quick
        ? { seconds: 5, counts: [1], settleSeconds: 15 }
        : { seconds: 20, counts: [1, 100, 1000], settleSeconds: 20 },
    ),
  "first-capture": () =>
    firstCapture(quick ? { small: 2000, largeMebibytes: 64 } : { small: 50_000, largeMebibytes: 2048 }),
  "file-latency": () => fileLatency(quick ? { changes: 20, slowChanges: 1 } : { changes: 100, slowChanges: 3 }),
  "file-versions": () => fileVersions(quick ? { mebibytes: 16, versions: 4 } : { mebibytes: 100, versions: 20 }),
  "file-memory": () => fileMemory({ files: quick ? 5000 : 500_000 }),
  restore: () =>
    restoreDatabase({
      mebibytes: quick ? 64 : 1024,
      updates: quick ? { count: 2000, rate: 1000 } : { count: 100_000, rate: 2000 },
    }),
  promote: () => promote(quick ? { rounds: 2, mebibytes: [16] } : { rounds: 5, mebibytes: [16, 256] }),
  "base-cost": () => baseCost({ mebibytes: quick ? 64 : 1024 }),
  requests: () => requests({ seconds: quick ? 20 : 60 }),
  "restore-files": () => restoreFiles({ files: quick ? 2000 : 50_000 }),
};

async function main(): Promise<void> {
  if (values.help) return void process.stdout.write(HELP);
  const chosen = values.only?.split(",") ?? Object.keys(SCENARIOS);
  const tables: Table[] = [];
  for (const name of chosen) {
    const scenario = SCENARIOS[name];
    if (!scenario) throw new Error(`no scenario "${name}"\n${HELP}`);
    const table = await scenario();
    tables.push(table);
    process.stdout.write(`${markdown(table)}\n`);
  }
  if (!quick && values.only === undefined) write(tables);
}

function write(tables: readonly Table[]): void {
  const [cpu] = os.cpus();
  const commit = execFileSync("git", ["rev-parse", "--short", "HEAD"], { encoding: "utf8" }).trim();
  const nats = execFileSync("nats-server", ["--version"], { encoding: "utf8" }).trim();
  const head = [
    "# Benchmarks",
    "",
    `Measured with \`./scripts/bench\` at commit ${commit} on ${new Date().toISOString().slice(0, 10)}: ${os.cpus().length} cores of ` +
      `${cpu?.model ?? "an unknown processor"}, ${(os.totalmem() / 2 ** 30).toFixed(0)} GiB, Linux ${os.release()}, Node ${process.version}, ${nats}. ` +
      "Everything runs on this one machine, the application included; ratios say more than figures.",
    "",
  ].join("\n");
  const file = path.join(import.meta.dirname, "..", "..", "docs", "benchmarks.md");
  fs.writeFileSync(file, `${head}\n${tables.map(markdown).join("\n")}`);
  execFileSync("npm", ["run", "--silent", "format", "--", file]);
  process.stdout.write(`wrote ${path.relative(process.cwd(), file)}\n`);
}

await main();

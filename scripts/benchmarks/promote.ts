/** From the command to the first write that the promoted standby took. */
import Database from "better-sqlite3";

import { quantiles } from "./measure.ts";
import { tidemarkOutput } from "./process.ts";
import { startSubject } from "./subjects.ts";
import { ms, type Table } from "./table.ts";
import { pause, Workspace } from "./workspace.ts";

const ROW_BYTES = 1024;
/** Until everything that was written is on the standby, and the page check of its start is over. */
const SETTLE_MS = 1500;

export async function promote(options: { rounds: number; mebibytes: readonly number[] }): Promise<Table> {
  const rows: string[][] = [];
  for (const mebibytes of options.mebibytes) {
    const whole: number[] = [];
    const inside: number[] = [];
    for (let round = 0; round < options.rounds; round += 1) {
      const found = await once(mebibytes);
      whole.push(found.wholeMs);
      inside.push(found.insideMs);
    }
    const { p50, max } = quantiles(whole);
    rows.push([`${mebibytes} MiB`, ms(p50), ms(max), ms(quantiles(inside).p50)]);
  }
  return {
    title: "Promotion",
    method:
      `Milliseconds from the start of \`tidemark promote\` on a standby that has applied everything until the application's first INSERT into the promoted database has returned; the primary was killed before ` +
      `(NATS, one server, ${options.rounds} rounds). The last column is what the agent itself needed, without the start of the command.`,
    columns: ["database", "p50", "max", "in the agent, p50"],
    rows,
  };
}

async function once(mebibytes: number): Promise<{ wholeMs: number; insideMs: number }> {
  using workspace = new Workspace();
  const file = workspace.database("app.db", { rows: mebibytes * 1024, rowBytes: ROW_BYTES });
  await using subject = await startSubject("nats", workspace.directory, [file]);
  await pause(SETTLE_MS);
  const capture = subject.processes.find(({ title }) => title === "capture");
  if (capture) process.kill(capture.pid, "SIGKILL");
  const beganMs = performance.now();
  const standby = workspace.path("standby");
  const answer = await tidemarkOutput(["promote", "--set", "bench", "--standby", standby, "--json"]);
  const app = new Database(subject.standbyOf(file) ?? "", { fileMustExist: true });
  app.exec("INSERT INTO bench (writer, v) VALUES (1, 'first')");
  const wholeMs = performance.now() - beganMs;
  app.close();
  return { wholeMs, insideMs: (JSON.parse(answer) as { durationMs: number }).durationMs };
}

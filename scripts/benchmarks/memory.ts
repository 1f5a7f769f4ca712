/** Memory with a large database: at its peak, and while it is followed. */
import { program, usageOf } from "./process.ts";
import { startSubject, TITLES, type SubjectName } from "./subjects.ts";
import { mebibytes, type Table } from "./table.ts";
import { Workspace } from "./workspace.ts";

const RATE = 200;

export async function memory(options: { mebibytes: number; seconds: number }): Promise<Table> {
  const rows: string[][] = [];
  for (const name of ["embedded", "nats", "litestream"] as const) rows.push(...(await measure(name, options)));
  return {
    title: "Memory",
    method:
      `Resident memory of each process, in MiB, with a database of ${options.mebibytes} MiB: at its peak, first copy to the standby included, ` +
      `and after ${options.seconds} s of following ${RATE} commits a second.`,
    columns: ["", "process", "peak", "following"],
    rows,
  };
}

async function measure(name: SubjectName, options: { mebibytes: number; seconds: number }): Promise<string[][]> {
  using workspace = new Workspace();
  const file = workspace.database("app.db", { rows: options.mebibytes * 256, rowBytes: 3900 });
  await using subject = await startSubject(name, workspace.directory, [file]);
  await program("app.ts", [file, String(options.seconds), "--rate", String(RATE)]).ended();
  return subject.processes.map(({ title, pid }) => {
    const { rssBytes, peakRssBytes } = usageOf(pid);
    return [TITLES[name], title, mebibytes(peakRssBytes), mebibytes(rssBytes)];
  });
}

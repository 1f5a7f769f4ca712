import fs from "node:fs";

/** What a writer tells of one transaction, before COMMIT and after it: what is there after a kill is exactly what it knew. */
export type JournalLine =
  | {
      readonly at: "begun";
      readonly chain: string;
      readonly previous: string;
      readonly seq: number;
      /** Place of the database: a host's, and which of those that it had one after the other. */
      readonly place: string;
    }
  | { readonly at: "done"; readonly chain: string; readonly ms: number }
  | { readonly at: "failed"; readonly chain: string; readonly why: string };

/** Milliseconds of the machine's monotonic clock: the same in all of its processes, and not for clock steps to move. */
export function machineMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** Lines that were cut short by a kill are left out. */
export function readJournals(files: readonly string[]): JournalLine[] {
  return files
    .filter((file) => fs.existsSync(file))
    .flatMap((file) => fs.readFileSync(file, "utf8").split("\n").slice(0, -1))
    .map((line) => JSON.parse(line) as JournalLine);
}

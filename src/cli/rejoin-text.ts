import { formatDuration, formatSize } from "../config/units.ts";
import type { DivergedDatabase, RejoinReport } from "../failover/rejoin/report.ts";

/** What a rejoin did, or would do, for people. */
export function rejoinText(report: RejoinReport, standby: string): string[] {
  const { offset, at, epoch, primary, durationMs, already } = report;
  if (already) return [`${standby} is a standby already: start \`tidemark replica\``];
  return [
    `rejoined in ${formatDuration(durationMs)}: ${standby} is a standby as of offset ${offset}, ${at}; host ${primary} is the primary (epoch ${epoch})`,
    ...divergedText(report),
    `repaired ${report.repaired.pages} pages, ${formatSize(report.repaired.bytes)} out of the log`,
    "start `tidemark replica` here: it follows the log from there",
  ];
}

function divergedText({ diverged, takenBack }: RejoinReport): string[] {
  const { databases, trees, directory } = diverged;
  const taken =
    takenBack === null
      ? []
      : [
          `events ${takenBack.after + 1} to ${takenBack.through} are in the log and were taken back by a forced promotion: \`tidemark restore --to ${takenBack.through}\` has them`,
        ];
  if (databases.length + trees.length === 0)
    return ["nothing had diverged: everything committed here is in the log", ...taken];
  return [
    `what was committed here and is not in the log is saved in ${directory ?? "a directory of its own"}:`,
    ...databases.map(databaseText),
    ...trees.map(
      ({ name, files, bytes, removed }) =>
        `  ${name}: ${files} files, ${formatSize(bytes)}, other or new; ${removed} removed`,
    ),
    ...taken,
  ];
}

function databaseText({ name, commits, until, pages, tables, uncompared }: DivergedDatabase): string {
  const span = `${commits === null ? "commits" : `${commits} commits`} until ${until}`;
  const rows = tables?.map((one) => `${one.name} +${one.inserted} ~${one.updated} -${one.deleted}`).join(", ");
  const whole = uncompared.length > 0 ? `; kept whole (${uncompared.join("; ")})` : "";
  return `  ${name}: ${span}, ${pages} pages${rows ? `; rows: ${rows}` : ""}${whole}`;
}

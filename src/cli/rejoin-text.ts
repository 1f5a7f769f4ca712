import { formatDuration, formatSize } from "../config/units.ts";
import type { DivergedDatabase, DivergedTree, RejoinReport } from "../failover/rejoin/report.ts";

/** What a rejoin did, or would do, for people. */
export function rejoinText(report: RejoinReport, standby: string): string[] {
  const { already, anew, dryRun, durationMs, refusal, repaired } = report;
  if (already) return [`${standby} is a standby already: start \`tidemark replica\``];
  const size = `${repaired.pages} pages, ${formatSize(repaired.bytes)}`;
  if (dryRun)
    return [
      `would become a standby as of ${sharedText(report)}`,
      ...divergedText(report),
      `would take ${size} out of the log`,
      ...(refusal ? [`not now: ${refusal}`] : []),
    ];
  const done = `rejoined in ${formatDuration(durationMs)}: ${standby} is a standby`;
  const next = "start `tidemark replica` here: it follows the log from there";
  if (anew) return [`${done} that is to be built anew`, ...divergedText(report), next];
  return [`${done} as of ${sharedText(report)}`, ...divergedText(report), `took ${size} out of the log`, next];
}

function sharedText({ offset, at, epoch, primary }: RejoinReport): string {
  return `offset ${offset}, ${at}, the last that host ${primary}, which began epoch ${epoch}, has too`;
}

function divergedText(report: RejoinReport): string[] {
  const { databases, trees, directory } = report.diverged;
  const found = [...databases.map(databaseText), ...trees.map(treeText)];
  if (report.anew) return [`the old databases are in ${directory}`, ...found, ...takenBackText(report)];
  if (found.length === 0)
    return ["nothing diverged: all that was committed here is in the log", ...takenBackText(report)];
  const where = directory === null ? "" : `, saved in ${directory}`;
  return [`committed here and not in the log${where}:`, ...found, ...takenBackText(report)];
}

function takenBackText({ takenBack }: RejoinReport): string[] {
  if (takenBack === null) return [];
  const { after, through } = takenBack;
  return [
    `events ${after + 1} to ${through} are in the log, and a forced promotion took them back: \`tidemark restore --to ${through}\` has them`,
  ];
}

function databaseText({ name, commits, atLeast, until, pages, tables, uncompared }: DivergedDatabase): string {
  const count = commits === null ? "commits" : `${atLeast ? "at least " : ""}${commits} commits`;
  const span = `${count} until ${until}`;
  const rows = tables?.map((one) => `${one.name} +${one.inserted} ~${one.updated} -${one.deleted}`).join(", ");
  const whole = uncompared.length > 0 ? `; a copy of all of it, because ${uncompared.join("; ")}` : "";
  return `  ${name}: ${span}, ${pages} pages${rows ? `; rows of ${rows}` : ""}${whole}`;
}

function treeText({ name, files, bytes, removed }: DivergedTree): string {
  return `  ${name}: ${files} files new or other, ${formatSize(bytes)}; ${removed} removed`;
}

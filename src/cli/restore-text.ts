import { formatDuration, formatSize } from "../config/units.ts";
import type { RestorePreview, RestoreReport } from "../restore/restore.ts";
import { textTable } from "./text-table.ts";

/** What a restore did, or would do, for people. */
export function restoreText(report: RestoreReport | RestorePreview): string[] {
  return "dryRun" in report ? previewText(report) : doneText(report);
}

function doneText(report: RestoreReport): string[] {
  const rows = report.databases.map(({ name, bytes, checksum, integrity, foreignKeys }) => [
    `  ${name}`,
    formatSize(bytes),
    `checksum ${checksum} as in the log`,
    `integrity ${integrity}`,
    `foreign keys ${foreignKeys}`,
  ]);
  return [
    `restored ${report.target} to offset ${report.offset}, ${report.at}, in ${formatDuration(report.durationMs)}`,
    ...textTable(rows),
    ...textTable(treeRows(report, "each SHA-256 as in the log")),
    ...textTable(tableRows(report)),
    ...consistencyText(report),
    ...gapText(report),
    ...refusalText(report),
    ...(report.kept === undefined ? [] : [`what the target held besides is kept in ${report.kept}`]),
  ];
}

function previewText(report: RestorePreview): string[] {
  const rows = report.databases.map(({ name, bytes, offset, at }) => [
    `  ${name}`,
    formatSize(bytes),
    `as of offset ${offset}, ${at}`,
  ]);
  return [
    `would restore ${report.target} to offset ${report.offset}, ${report.at} (dry run: nothing was written)`,
    ...textTable(rows),
    ...textTable(treeRows(report, "")),
    `reads events ${report.fromOffset} to ${report.offset}; needs ${formatSize(report.bytesNeeded)}, ${formatSize(report.bytesFree)} are free`,
    ...fetchText(report),
    ...consistencyText(report),
    ...gapText(report),
  ];
}

function fetchText({ fetches, base }: RestorePreview): string[] {
  if (!fetches) return [];
  const { segments, segmentBytes, logEvents, contentBytes } = fetches;
  const parts = [
    base ? `the base of offset ${base.offset}, ${base.at}` : "no base",
    `${formatSize(contentBytes)} of pages and contents`,
    `${counted(segments, "segment") || "no segments"} of ${formatSize(segmentBytes)}`,
    ...(logEvents > 0 ? [`${counted(logEvents, "event")} of the log`] : []),
  ];
  return [`fetches ${parts.join(", ")}`];
}

function treeRows({ trees }: RestoreReport | RestorePreview, proof: string): string[][] {
  return trees.map(({ name, files, directories, links, bytes }) => [
    `  ${name}`,
    formatSize(bytes),
    [counted(files, "file"), counted(directories, "directory"), counted(links, "link")].filter(Boolean).join(", "),
    files > 0 ? proof : "",
  ]);
}

function tableRows({ tables = [] }: RestoreReport): string[][] {
  return tables.map(({ database, name, rows, file, leftOut }) => [
    `  ${name} of ${database}`,
    counted(rows, "row") || "no rows",
    `in ${file}`,
    leftOut.length > 0 ? `without ${leftOut.join(", ")}` : "",
  ]);
}

function counted(count: number, noun: string): string {
  if (count === 0) return "";
  return `${count} ${count === 1 ? noun : noun.replace(/y$/, "ie").concat("s")}`;
}

function consistencyText({ consistent, nearestConsistent: nearest }: RestoreReport | RestorePreview): string[] {
  if (consistent) return [];
  const where = nearest
    ? `the nearest before it is offset ${nearest.offset}, ${nearest.at} (\`--consistent\` takes it)`
    : "none before it is known";
  return [`note: files may be missing or older than the rows that tell of them: not a consistent point; ${where}`];
}

function refusalText({ metadataRefused: refused }: RestoreReport): string[] {
  if (!refused) return [];
  const more = refused.count - refused.shown.length;
  const list = [...refused.shown, ...(more > 0 ? [`${more} more`] : [])].join("; ");
  return [`note: not given back here: ${list}. Owners come back when root restores`];
}

function gapText({ gaps }: RestoreReport | RestorePreview): string[] {
  return gaps.map(
    ({ database, since, until, exactBefore, exactFrom }) =>
      `note: commits of ${database} between ${since} and ${until} were not seen one by one; exact points nearby: ${exactBefore} and ${exactFrom}`,
  );
}

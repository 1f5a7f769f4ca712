import { formatDuration, formatSize } from "../config/units.ts";
import type { StatusReport } from "../observe/status-report.ts";
import { textTable } from "./text-table.ts";

/** `status` for people: a compact table, then what is wrong. */
export function statusText(report: StatusReport): string[] {
  const databases = databaseRows(report);
  const trees = treeRows(report);
  return [
    heading(report),
    "",
    ...textTable(positionRows(report), new Set([1])),
    ...(databases.length > 1 ? ["", ...textTable(databases)] : []),
    ...(trees.length > 1 ? ["", ...textTable(trees)] : []),
    ...(report.alerts.length > 0 ? [""] : []),
    ...report.alerts.map(({ severity, message }) => `${severity === "critical" ? "!!" : " !"} ${message}`),
  ];
}

function heading({ set, epoch, agents }: StatusReport): string {
  const running = agents.map(({ role, pid, state }) => `${role} (pid ${pid}, ${state})`).join(", ");
  const parts = [`set ${set ?? "(unknown)"}`, ...(epoch === null ? [] : [`epoch ${epoch}`])];
  return [...parts, running || "no agent runs on this host: this is what the log tells"].join("  ·  ");
}

function positionRows({ log, fence, capture, standby, repositories, rpo, replicas }: StatusReport): string[][] {
  const rows: string[][] = [["", "offset", "time", "behind", ""]];
  if (log)
    rows.push([
      "log",
      String(log.last),
      log.at ?? "",
      "",
      [
        `${formatSize(log.bytes)} from offset ${log.first}, ${log.location}`,
        ...(log.heldBy === null ? [] : [`not trimmed further: ${log.heldBy}`]),
      ].join("; "),
    ]);
  if (fence) rows.push(["fenced", String(fence.offset), fence.at ?? "", "", fenceText(fence)]);
  if (capture) rows.push(["captured", String(capture.offset), capture.at ?? "", formatDuration(capture.lagMs), ""]);
  if (standby) {
    const proof = standby.verified ? "verified" : "NOT VERIFIED";
    rows.push([
      "standby",
      String(standby.offset),
      standby.at ?? "",
      formatDuration(standby.lagMs),
      `${standby.state}, ${standby.lagEvents} events behind, ${proof}`,
    ]);
  }
  for (const { host, standby: directory, offset, at, ageMs, lagEvents } of replicas) {
    const said = `${lagEvents} events before the log's end, heard of ${formatDuration(ageMs)} ago, ${host}:${directory}`;
    rows.push(["replica", String(offset), at ?? "", "", said]);
  }
  for (const { location, archived, base, bytes, baseUnderWay } of repositories) {
    const stored = bytes === null ? [] : [formatSize(bytes)];
    rows.push(["archived", String(archived?.offset ?? ""), archived?.at ?? "", "", [...stored, location].join(", ")]);
    const making = baseUnderWay
      ? `the next: ${Math.floor((100 * baseUnderWay.done) / Math.max(1, baseUnderWay.total))} %`
      : "";
    rows.push(["base", String(base?.offset ?? ""), base?.at ?? "", "", making]);
  }
  const actual = rpo.actualMs === null ? "unknown" : formatDuration(rpo.actualMs);
  const verdict = rpo.ok === null ? "" : rpo.ok ? "met" : "MISSED";
  rows.push(["rpo", "", "", actual, `objective ${formatDuration(rpo.objectiveMs)} ${verdict}`.trimEnd()]);
  return rows;
}

function fenceText({ mode, locked, final }: NonNullable<StatusReport["fence"]>): string {
  const how = mode === "lock" ? `${locked} databases locked` : `fence: ${mode}`;
  return final ? `epoch over, ${how}` : `for now, ${how}`;
}

function databaseRows({ capture, standby }: StatusReport): string[][] {
  const names = new Set([...(capture?.databases ?? []), ...(standby?.databases ?? [])].map(({ name }) => name));
  const rows = [...names].toSorted().map((name) => {
    const source = capture?.databases.find((database) => database.name === name);
    const copy = standby?.databases.find((database) => database.name === name);
    const progress = source?.copy ? ` ${Math.floor((100 * source.copy.done) / Math.max(1, source.copy.total))} %` : "";
    return [
      name,
      source ? `${source.state}${progress}` : "",
      String(source?.pages ?? copy?.pages ?? ""),
      source ? formatSize(source.walBytes) : "",
      source ? `${source.commits}` : "",
      copy?.checksum ?? "",
    ];
  });
  return [["database", "capture", "pages", "WAL", "commits", "standby checksum"], ...rows];
}

function treeRows({ capture }: StatusReport): string[][] {
  const rows = (capture?.files ?? []).map(({ name, state, scan, files, bytes, dirty, rescans }) => [
    name,
    scan && state === "scanning" ? `${state} ${Math.floor((100 * scan.done) / Math.max(1, scan.total))} %` : state,
    String(files),
    formatSize(bytes),
    String(dirty),
    String(rescans),
  ]);
  return [["files", "capture", "files", "size", "dirty", "rescans"], ...rows];
}

import fs from "node:fs";
import path from "node:path";

import type { Clock } from "../../runtime/clock.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { makeDirectory, syncDirectory } from "../../runtime/durable-directory.ts";
import { replaceFile } from "../../runtime/replace-file.ts";
import { fenceFile, type FenceRecord, readFence, writeFence } from "../fence-record.ts";
import { removeOffer } from "../offer-record.ts";
import { dropRole } from "../standby-role.ts";
import type { RejoinRecord } from "./rejoin-record.ts";
import type { RejoinOptions } from "./rejoin.ts";
import type { RejoinReport } from "./report.ts";

export type Report = Omit<RejoinReport, "durationMs">;

/** So that an agent which is started before this is finished captures nothing. */
export function fence(
  { config, former, clock }: RejoinOptions,
  known: Pick<FenceRecord, "epoch" | "offset" | "reason">,
): void {
  if (readFence(former.state)) return;
  writeFence(former.state, { ...known, set: config.set, at: new Date(clock.now()).toISOString() });
  crashPoint("rejoin: fenced");
}

/** Where what diverged is saved: made when it is first asked for. */
export function divergedDirectory(record: RejoinRecord, { former, clock }: RejoinOptions): string {
  const directory = record.now.directory ?? path.join(former.state, `diverged-${stampOf(clock)}`);
  makeDirectory(directory, { mode: 0o700 });
  if (record.now.directory === null) record.note({ directory });
  return directory;
}

/** The standby's own state is recorded: what is left is told, and the fence lifted. */
export function end(record: RejoinRecord, report: Report): void {
  const { directory } = record.now;
  const text = `${JSON.stringify(report, null, 2)}\n`;
  if (directory !== null) replaceFile(path.join(directory, "summary.json"), text, { mode: 0o600 });
  record.note({ report });
}

/** The last step: from here on the host is a standby. */
export function lift(
  { former, clock, config }: RejoinOptions,
  { record, report }: { readonly record: RejoinRecord; readonly report: Report },
): Report {
  if (former.isPromoted) dropRole(config.standby ?? "");
  removeOffer(former.state);
  crashPoint("rejoin: role dropped");
  const file = fenceFile(former.state);
  if (fs.existsSync(file)) {
    fs.renameSync(file, path.join(former.state, `fenced-${stampOf(clock)}.json`));
    syncDirectory(former.state);
  }
  crashPoint("rejoin: fence lifted");
  record.remove();
  return report;
}

/** For names of files. */
function stampOf(clock: Clock): string {
  return new Date(clock.now())
    .toISOString()
    .replaceAll(":", "")
    .replace(/\.\d+Z$/, "Z");
}

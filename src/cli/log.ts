import type { Command } from "commander";

import { formatSize } from "../config/units.ts";
import type { LogEvent } from "../event/kinds.ts";
import { BEFORE_FIRST, offset, type Offset } from "../event/positions.ts";
import { shownPlace } from "../event/tree-path.ts";
import type { History } from "../restore/history.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { type Cli, oneShot } from "./cli.ts";
import { openHistory } from "./open-history.ts";
import { positionOf } from "./position-of.ts";
import { type HistoryOptions, setCommand } from "./set-options.ts";

interface LogOptions extends HistoryOptions {
  readonly from?: string;
  readonly to?: string;
  readonly follow?: boolean;
}

export function logCommand(cli: Cli): Command {
  return setCommand({
    name: "log",
    repository: true,
    summary: "list the events of the log, or of a repository",
    description:
      "Lists events: offset, time, kind, name, size. --from and --to take an offset, a time (RFC 3339 with zone) or mark:NAME, both included.",
    examples: [
      "tidemark log --standby /mnt/standby --from 100 --to 120",
      "tidemark log --json --follow -c tidemark.yml",
      "tidemark log --from 2026-01-31T17:45:00Z --log embedded:/mnt/standby/.tidemark/log",
    ],
  })
    .option("--from <position>", "first event to list")
    .option("--to <position>", "last event to list")
    .option("--follow", "go on with new events until interrupted")
    .action((options: LogOptions) => oneShot(cli, () => list(cli, options)));
}

async function list(cli: Cli, options: LogOptions): Promise<void> {
  await using opened = await openHistory(cli, { command: "log", options, configured: false, keys: false });
  const { history } = opened;
  const range = await rangeOf(cli, history, options);
  if (range === undefined) return;
  const follow = options.follow ?? false;
  for await (const events of history.events({ ...range, follow, sealed: true, signal: cli.signal })) {
    for (const event of events) await cli.print(options.json ? eventJson(event) : eventText(event));
  }
}

/** Undefined when the log holds nothing in the range. */
async function rangeOf(
  cli: Cli,
  history: History,
  options: LogOptions,
): Promise<{ after: Offset; through: Offset } | undefined> {
  const { first, last } = await history.bounds();
  const at = async (text: string, edge: "from" | "to"): Promise<Offset> =>
    positionOf(history, { text, edge, clock: cli.clock, signal: cli.signal });
  const from = options.from === undefined ? first : await at(options.from, "from");
  const end = options.follow ? offset(Number.MAX_SAFE_INTEGER) : last;
  const to = options.to === undefined ? end : await at(options.to, "to");
  const through = to < end ? to : end;
  if (!options.follow && /^\d+$/.test(options.from ?? "") && from > last) throw beyondHead(history, from, last);
  const after = Math.max(from, first) - 1;
  if (!options.follow && (after >= last || through <= after)) return undefined;
  return { after: after < 1 ? BEFORE_FIRST : offset(Math.min(after, last)), through };
}

function beyondHead(history: History, from: Offset, last: Offset): TidemarkError {
  return new TidemarkError(
    "OFFSET_NOT_FOUND",
    `${history.location}: offset ${from} is not there; the newest is ${last}`,
    {
      hint: "Name an earlier one, or wait for it with --follow.",
    },
  );
}

function nameOf({ body }: LogEvent): string {
  switch (body.kind) {
    case "genesis":
      return body.set;
    case "epoch":
    case "heartbeat":
      return body.host;
    case "sqlite.part":
    case "sqlite.commit":
      return body.database;
    case "mark":
      return body.name;
    case "file.chunk":
      return Buffer.from(body.id).toString("hex", 0, 8);
    case "file.part":
      return body.tree;
    case "file.put":
    case "file.remove":
    case "dir.put":
    case "dir.remove":
    case "link.put":
      return shownPlace(body.tree, body.path);
    case "key":
      return Buffer.from(body.id).toString("hex", 0, 8);
    case "sealed":
      return "(encrypted)";
    case "skipped":
      return `kind ${body.code} of a newer version`;
    default:
      return body satisfies never;
  }
}

function shownKind({ body }: LogEvent): string {
  return body.kind === "sealed" ? body.of : body.kind;
}

function eventJson(event: LogEvent): string {
  const { offset: at, timeMs, epoch, bytes } = event;
  return JSON.stringify({
    offset: at,
    at: new Date(timeMs).toISOString(),
    kind: shownKind(event),
    name: nameOf(event),
    epoch,
    bytes,
    ...(event.consistent ? { consistent: true } : {}),
  });
}

function eventText(event: LogEvent): string {
  const { offset: at, timeMs, bytes, body } = event;
  const cause = body.kind === "sqlite.commit" && body.cause !== "commit" ? ` (${body.cause})` : "";
  const columns = [
    String(at).padStart(9),
    new Date(timeMs).toISOString(),
    shownKind(event).padEnd(13),
    formatSize(bytes).padStart(9),
  ];
  return `${columns.join("  ")}  ${nameOf(event)}${cause}`;
}

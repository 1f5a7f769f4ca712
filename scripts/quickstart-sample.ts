/** The quickstart with its sample application. */
import { join } from "node:path";
import {
  type ComparedFiles,
  compareReceipts,
  compareRows,
  compareWithJournal,
  readJournal,
  readShop,
} from "./quickstart-compare.ts";
import { follow } from "./quickstart-follow.ts";
import type { Running } from "./quickstart-process.ts";
import {
  count,
  keepRunning,
  QuickstartFailure,
  restoreTo,
  type Session,
  startAgent,
  startReader,
  stopAgent,
  syncStandby,
  untilVerified,
} from "./quickstart-session.ts";
import { contentsAfter } from "./quickstart-shop.ts";

const FOLLOW_SECONDS = 22;
const BACK_MS = 10_000;
/** An order committed longer than this before the asked moment must be in the restore. */
const LATE_MS = 5_000;

export async function showSample(session: Session): Promise<void> {
  const { view } = session;
  await using app = startApp(session);
  await app.firstOrder;
  view.say(
    `A sample shop is taking orders in ${session.database}: about 50 transactions a second,\neach with a receipt that it wrote into ${filesOf(session)} before.`,
  );
  await using agent = startAgent(session);
  const beganMs = performance.now();
  await untilVerified(session, agent);
  view.say(`The hot standby is up after ${seconds(performance.now() - beganMs)}; a reader is checking it from now on.`);
  await using reader = startReader(session, "shop");
  await follow(session, { source: app.describe, reader: reader.latest }, FOLLOW_SECONDS);
  await proveRestore(session);
  await app.stop();
  await proveStandby(session);
  await reader.stop();
  proveReader(session, reader.latest());
  await stopAgent(agent);
}

interface App extends Running {
  readonly firstOrder: Promise<void>;
  readonly describe: () => string;
}

const filesOf = ({ files = "" }: Session): string => files;
const journalPath = ({ directory }: Session): string => join(directory, "journal.jsonl");

function startApp(session: Session): App {
  const { promise: firstOrder, resolve, reject } = Promise.withResolvers<void>();
  session.signal.addEventListener("abort", () => reject(session.signal.reason as Error), { once: true });
  let orders = 0;
  const startedMs = performance.now();
  const running = keepRunning(session, "the sample application", {
    command: process.execPath,
    args: [join(import.meta.dirname, "quickstart-app.ts"), session.database, journalPath(session), filesOf(session)],
    onLine: (line) => {
      ({ orders } = JSON.parse(line) as { orders: number });
      resolve();
    },
    stopWith: "end of input",
  });
  const rate = (): number => Math.round((orders * 1_000) / (performance.now() - startedMs));
  return { ...running, firstOrder, describe: () => `${count(orders, "order")} committed, ${rate()} a second` };
}

/** Restores to ten seconds ago while the shop goes on, and holds the result against the shop's own journal. */
async function proveRestore(session: Session): Promise<void> {
  const { view } = session;
  const moment = new Date(Date.now() - BACK_MS);
  view.say(`\nRestoring to ten seconds ago, ${moment.toISOString()}, while the shop goes on:`);
  const { report, database, files = "" } = await restoreTo(session, moment);
  const journal = readJournal(journalPath(session));
  const found = compareWithJournal(database, journal, moment.getTime());
  if (found.differences.length > 0)
    throw new QuickstartFailure(`the restore differs:\n${found.differences.join("\n")}`);
  if (found.lastBeforeMs < 0) throw new QuickstartFailure("the restore holds an order from after the moment asked for");
  if (found.nextAfterMs < -LATE_MS) {
    throw new QuickstartFailure(
      `order ${found.orders + 1} was committed ${-found.nextAfterMs} ms before that moment and is missing`,
    );
  }
  view.say(`ok  restored offset ${report.offset} in ${seconds(report.durationMs)}: ${verdictOf(report.databases)}`);
  view.say(
    `ok  ${count(found.rows, "row")} compared with what the shop wrote down: equal, every one. ${count(found.orders, "order")} then, ${journal.length.toLocaleString("en-US")} now;`,
  );
  const receipts = requireEqual("the restore", compareReceipts(database, files));
  view.say(
    `    the last one restored began ${found.lastBeforeMs} ms before that moment, the next was committed ${describeNext(found.nextAfterMs)}.`,
  );
  view.say(
    `ok  ${count(receipts.files, "receipt")} restored with their rows, each with the hash that its row tells; ${describeExtra(receipts)}.`,
  );
}

const describeExtra = ({ withoutRow }: ComparedFiles): string =>
  withoutRow.length === 0
    ? "no file without its row"
    : `${count(withoutRow.length, "file")} without a row yet, or no more`;

function requireEqual(what: string, found: ComparedFiles): ComparedFiles {
  if (found.differences.length > 0) throw new QuickstartFailure(`${what} differs:\n${found.differences.join("\n")}`);
  if (found.files === 0) throw new QuickstartFailure(`${what} holds no receipt`);
  return found;
}

const describeNext = (ms: number): string => (ms >= 0 ? `${ms} ms after it` : `${-ms} ms before it (and logged after)`);

const verdictOf = (databases: readonly { integrity: string; foreignKeys: string; pages: number }[]): string =>
  databases
    .map(
      (each) =>
        `${count(each.pages, "page")}, checksum equal, integrity ${each.integrity}, foreign keys ${each.foreignKeys}`,
    )
    .join("; ");

/** The shop has stopped: after a sync the standby must hold every order it ever committed. */
async function proveStandby(session: Session): Promise<void> {
  session.view.say("\nThe shop has closed. Bringing the standby to its last commit:");
  await syncStandby(session);
  const journal = readJournal(journalPath(session));
  const found = compareRows(contentsAfter(journal, journal.length), readShop(session.standbyDatabase));
  if (found.differences.length > 0)
    throw new QuickstartFailure(`the standby differs:\n${found.differences.join("\n")}`);
  session.view.say(
    `ok  ${count(found.rows, "row")} on the standby compared: all ${count(journal.length, "order")} are there, every row equal.`,
  );
  const receipts = requireEqual("the standby", compareReceipts(session.standbyDatabase, session.standbyFiles ?? ""));
  const [extra] = receipts.withoutRow;
  if (extra !== undefined) throw new QuickstartFailure(`the standby still has ${extra}, which the shop has deleted`);
  session.view.say(`ok  ${count(receipts.files, "receipt")} beside them, every one equal, and no other file.`);
}

function proveReader(
  { view }: Session,
  report: { reads: number; broken: number; problem: string | undefined } | undefined,
): void {
  if (!report || report.reads === 0) throw new QuickstartFailure("the reader of the standby never read");
  if (report.broken > 0)
    throw new QuickstartFailure(`${report.broken} reads of the standby were broken: ${report.problem}`);
  view.say(
    `ok  ${count(report.reads, "read")} of the standby by another process while it changed: the books balanced and the newest receipt was there in every one.`,
  );
}

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;

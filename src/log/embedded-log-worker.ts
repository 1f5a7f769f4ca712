import Database from "better-sqlite3";
import { closeSync, constants, openSync, writeSync } from "node:fs";
import { parentPort, workerData } from "node:worker_threads";
import { sleep } from "../runtime/clock.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import { makeDirectory, syncDirectory } from "../runtime/durable-directory.ts";
import { errnoOf, TidemarkError, toTidemarkError } from "../runtime/errors.ts";
import { giveBack } from "../runtime/give-back.ts";
import { invariant } from "../runtime/invariant.ts";
import {
  type AppendRequest,
  type FromWorker,
  toPlain,
  type ToWorker,
  type WorkerOptions,
} from "./embedded-protocol.ts";
import {
  bellFile,
  embeddedLocation,
  fileIdentity,
  logFile,
  openStoreForWrite,
  toStoreError,
  trimSlice,
  writerLockFile,
} from "./embedded-store.ts";
import { appendRows } from "./embedded-append.ts";
import { abandonedError, recreatedError } from "./log-errors.ts";

/**
 * The thread that owns the embedded log's only write connection, so that an fsync never holds up the main thread.
 * Appends that arrive while one is being synced are committed together in the next transaction.
 */
const GROUP_BYTES = 2 * 1024 * 1024;
const FIRST_DELAY_MS = 50;
const MAX_DELAY_MS = 5_000;

invariant(parentPort, "embedded-log-worker runs in a worker thread");
const port = parentPort;
const options = workerData as WorkerOptions;
const location = embeddedLocation(options.directory);
const post = (message: FromWorker): void => port.postMessage(message);

interface Store extends Disposable {
  readonly database: Database.Database;
  readonly bell: number;
  readonly identity: string | undefined;
}

let waiting: AppendRequest[] = [];
let draining = false;
/** Counts failures; `failure` is the last of them. */
let round = 0;
let failure: TidemarkError | undefined;

try {
  const store = openStore();
  port.on("message", (message: ToWorker) => receive(store, message));
  post({ type: "opened" });
} catch (error) {
  post({ type: "refused", error: toPlain(toTidemarkError(toStoreError(error, location))) });
}

function openStore(): Store {
  makeDirectory(options.directory);
  const lock = takeWriterLock();
  const database = openStoreForWrite(options);
  crashPoint("log: made");
  const bell = openSync(bellFile(options.directory), constants.O_RDWR | constants.O_CREAT);
  syncDirectory(options.directory);
  const dispose = (): void => {
    database.close();
    closeSync(bell);
    lock.close();
  };
  return {
    database,
    bell,
    identity: fileIdentity(logFile(options.directory)),
    [Symbol.dispose]: dispose,
  };
}

/** A lock that dies with this process, whatever kills it: an open exclusive transaction on a file of its own. */
function takeWriterLock(): Database.Database {
  const lock = new Database(writerLockFile(options.directory), { timeout: 0 });
  try {
    lock.exec("BEGIN EXCLUSIVE");
    return lock;
  } catch (error) {
    lock.close();
    if (errnoOf(error) !== "SQLITE_BUSY") throw error;
    throw new TidemarkError("AGENT_RUNNING", `${location}: another agent is writing this log`, {
      hint: "Stop the other `tidemark capture` or `tidemark run` first, or give this one another set and log directory.",
    });
  }
}

function receive(store: Store, message: ToWorker): void {
  if (message.type === "append") accept(message);
  if (message.type === "abandon") abandon(message.id);
  if (message.type === "trim") void trim(store, message);
  if (message.type === "close") {
    failFrom(0, abandonedError(location));
    store[Symbol.dispose]();
    port.close();
    return;
  }
  if (!draining && waiting.length > 0) {
    draining = true;
    // Not at once: first let the messages in that are already waiting, they share the fsync.
    setImmediate(() => void drain(store));
  }
}

function accept(request: AppendRequest): void {
  if (failure && request.round < round) post({ type: "failed", id: request.id, round, error: toPlain(failure) });
  else waiting.push(request);
}

async function drain(store: Store): Promise<void> {
  let delayMs = FIRST_DELAY_MS;
  while (waiting.length > 0) {
    try {
      commitGroup(store);
      delayMs = FIRST_DELAY_MS;
      await new Promise(setImmediate);
    } catch (thrown) {
      const error = toTidemarkError(toStoreError(thrown, location));
      if (!error.retryable) {
        failAll(error);
        continue;
      }
      post({ type: "problem", error: toPlain(error) });
      await sleep(delayMs);
      delayMs = Math.min(delayMs * 2, MAX_DELAY_MS);
    }
  }
  draining = false;
}

function commitGroup(store: Store): void {
  if (fileIdentity(logFile(options.directory)) !== store.identity) {
    throw recreatedError(location, "log.db was replaced or removed while it was in use");
  }
  const group = nextGroup();
  const outcome = store.database.transaction(() => appendRows(store.database, group, location)).immediate();
  crashPoint("log: committed");
  ring(store, outcome.heads.at(-1));
  crashPoint("log: rung");
  outcome.heads.forEach((head, index) => {
    const request = group[index];
    if (!request) return;
    for (const { buffer } of request.records) giveBack(buffer);
    post({ type: "done", id: request.id, head });
  });
  waiting = waiting.slice(outcome.heads.length);
  if (outcome.error) failAll(outcome.error);
}

function nextGroup(): AppendRequest[] {
  let bytes = 0;
  const end = waiting.findIndex((request) => (bytes += bytesOf(request)) > GROUP_BYTES);
  return end === -1 ? waiting : waiting.slice(0, Math.max(1, end));
}

function bytesOf({ records }: AppendRequest): number {
  return records.reduce((sum, { length }) => sum + length, 0);
}

/** Tells readers in other processes that there is something new. When it fails, their slow look finds it. */
function ring(store: Store, head: number | undefined): void {
  if (head === undefined) return;
  try {
    writeSync(store.bell, "\n", 0);
  } catch (error) {
    post({ type: "problem", error: toPlain(toTidemarkError(toStoreError(error, location))) });
  }
}

function failAll(error: TidemarkError): void {
  failure = error;
  round += 1;
  failFrom(0, error);
}

function failFrom(index: number, error: TidemarkError): void {
  for (const request of waiting.slice(index)) post({ type: "failed", id: request.id, round, error: toPlain(error) });
  waiting = waiting.slice(0, index);
}

function abandon(id: number): void {
  const index = waiting.findIndex((request) => request.id >= id);
  if (index !== -1) failFrom(index, abandonedError(location));
}

async function trim(store: Store, request: { id: number; through: number }): Promise<void> {
  try {
    while (trimSlice(store.database, request.through) > 0) await new Promise(setImmediate);
    post({ type: "done", id: request.id, head: 0 });
  } catch (error) {
    post({
      type: "failed",
      id: request.id,
      round,
      error: toPlain(toTidemarkError(toStoreError(error, location))),
    });
  }
}

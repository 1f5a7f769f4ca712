import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import { LostEvents } from "../../../src/capture/files/lost-events.ts";
import { Sentinel } from "../../../src/capture/files/sentinel.ts";
import { inotify } from "../../../src/capture/files/watch-backend.ts";
import { WalWatch } from "../../../src/capture/sqlite/wal-watch.ts";
import { waitFor } from "../../support/wait.ts";

const LENGTH = Number(fs.readFileSync("/proc/sys/fs/inotify/max_queued_events", "utf8"));
const nothing = (): void => undefined;

let directory: string;
let lost: string[];
let resources: DisposableStack;
/** What is announced of the directory. */
let onEvent: () => void;
let write: (times: number) => void;

beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-lost-"));
  lost = [];
  resources = new DisposableStack();
  const tree = path.join(directory, "tree");
  fs.mkdirSync(tree);
  const files = ["app.db-wal", "upload"].map((name) => fs.openSync(path.join(tree, name), "w"));
  resources.defer(() => files.forEach((fd) => fs.closeSync(fd)));
  const sentinel: Sentinel = new Sentinel({
    directory: path.join(directory, "sentinel"),
    backend: inotify,
    patienceMs: 10_000,
    onHeard: (number) => lostEvents.heard(number),
  });
  const lostEvents = resources.use(new LostEvents(resources.use(sentinel), (why) => lost.push(why)));
  sentinel.begin();
  onEvent = nothing;
  resources.use(inotify.watch(Buffer.from(tree), { onEvent: () => onEvent(), onFailure: nothing }));
  resources.use(new WalWatch(path.join(tree, "app.db"), { onWrite: nothing, onFailure: nothing }));
  // Three announcements: two of the tree, one of the WAL. What is announced twice in a row is announced once.
  write = (times) => {
    for (let time = 0; time < times; time += 1) for (const fd of files) fs.writeSync(fd, "x");
  };
});
afterEach(() => {
  resources[Symbol.dispose]();
  fs.rmSync(directory, { recursive: true });
});

async function announced(times: number, whenever: (count: number) => void = nothing): Promise<void> {
  let count = 0;
  onEvent = () => whenever((count += 1));
  write(times);
  await waitFor("it was announced", () => count >= 2 * times);
}

test("a queue that was nearly full counts as one that ran over, whoever watches: trees and databases share it", async () => {
  await announced(Math.floor(LENGTH / 5));
  expect(lost).toEqual([]);
  // The tree's are 0.6 of the queue.
  await announced(Math.floor(LENGTH * 0.3));
  expect(lost).not.toEqual([]);
});

test("one that ran over is noticed", async () => {
  write(LENGTH);
  await waitFor("it is noticed", () => lost.length > 0);
});

test("much that is announced in one turn, because it comes while it is read, was never in the queue together", async () => {
  let more = LENGTH;
  await announced(LENGTH / 8, (count) => {
    if (count % 2 === 1 && (more -= 1) > 0) write(1);
  });
  await waitFor("all is read", () => more <= 0);
  expect(lost).toEqual([]);
});

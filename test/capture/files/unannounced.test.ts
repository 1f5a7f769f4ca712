import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

import { afterEach, expect, test } from "vitest";

import type { CaptureAgent } from "../../../src/capture/capture-agent.ts";
import { inotify, type WatchBackend } from "../../../src/capture/files/watch-backend.ts";
import { onCrashPoint } from "../../../src/runtime/crash-point.ts";
import { fileContent } from "../../support/apps/file-writer.ts";
import { captureHere } from "../../support/capture-here.ts";
import { Deployment } from "../../support/deployment.ts";
import { checkOrder, createFilesTable, runFileWriters } from "../../support/file-order.ts";
import { filesBelow, LogFold } from "../../support/log-fold.ts";
import { Random } from "../../support/random.ts";
import { waitFor } from "../../support/wait.ts";
import { deaf, Interrupted, limited, mute } from "../../support/watch-backends.ts";

afterEach(() => onCrashPoint(() => undefined));

/** A capture in this process that hears of changes through `backend`. */
async function withCapture(
  { backend, rescan }: { backend: WatchBackend; rescan: string },
  work: (scene: { deployment: Deployment; root: string; agent: CaptureAgent }) => Promise<void>,
): Promise<void> {
  await using deployment = new Deployment({ config: `files: [app/uploads]\nrescan: ${rescan}` });
  const root = deployment.pathOf("uploads");
  fs.mkdirSync(path.join(root, "there"), { recursive: true });
  await createFilesTable(deployment.database);
  await captureHere(deployment, async (agent) => work({ deployment, root, agent }), { backend });
}

async function isCaptured(deployment: Deployment, root: string): Promise<boolean> {
  const fold = new LogFold();
  for (const event of await deployment.events()) fold.apply(event);
  const files = filesBelow(root);
  return (
    fold.files.size === files.size &&
    [...files].every(([name, data]) => Buffer.from(data).equals(fold.files.get(name) ?? Buffer.from("x")))
  );
}

function change(root: string, round: number): void {
  fs.writeFileSync(path.join(root, "there/file"), `version ${round}`);
  fs.mkdirSync(path.join(root, `made-${round}/deeper`), { recursive: true });
  fs.writeFileSync(path.join(root, `made-${round}/deeper/file`), String(round));
  fs.rmSync(path.join(root, `made-${round - 1}`), { recursive: true, force: true });
}

test("with every event dropped the log has everything after the next scan", async () => {
  await withCapture({ backend: deaf, rescan: "1s" }, async ({ deployment, root, agent }) => {
    for (let round = 1; round <= 2; round += 1) {
      change(root, round);
      const before = agent.status().files[0]?.rescans ?? 0;
      await waitFor("two more scans", () => (agent.status().files[0]?.rescans ?? 0) >= before + 2);
      await waitFor("what they found", async () => isCaptured(deployment, root), { timeoutMs: 2000 });
    }
  });
});

test("with the event loop blocked during 20,000 creates everything is found without waiting for the next scan", async () => {
  await withCapture({ backend: inotify, rescan: "10m" }, async ({ deployment, root, agent }) => {
    for (let number = 0; number < 20_000; number += 1) fs.writeFileSync(path.join(root, `there/${number}`), "");
    await waitFor("all files", () => agent.status().files[0]?.files === 20_000);
    await agent.sync();
    expect(await isCaptured(deployment, root)).toBe(true);
    // What a scan finds is in the log before the scan is over.
    await waitFor("the end of a scan", () => (agent.status().files[0]?.rescans ?? 0) > 0);
  });
});

test("so is what was not announced because of all that happened beside the tree", async () => {
  await withCapture({ backend: inotify, rescan: "10m" }, async ({ deployment, root, agent }) => {
    const beside = ["one", "other"].map((name) => fs.openSync(path.join(root, "..", name), "w"));
    for (let times = 0; times < 10_000; times += 1) for (const fd of beside) fs.writeSync(fd, "x");
    change(root, 1);
    await waitFor("both files", async () => isCaptured(deployment, root));
    // What a scan finds is in the log before the scan is over.
    await waitFor("the end of a scan", () => (agent.status().files[0]?.rescans ?? 0) > 0);
    for (const fd of beside) fs.closeSync(fd);
  });
});

test("where nothing is announced at all, commits wait for a scan", async () => {
  await withCapture({ backend: mute, rescan: "10m" }, async ({ deployment, root, agent }) => {
    change(root, 1);
    const { database } = deployment;
    await runFileWriters([{ database, root, writer: 0, commits: 10, delayMs: 20, deleteAge: 100 }], 60_000);
    await agent.sync();
    await waitFor("everything", async () => isCaptured(deployment, root));
    const { wrong, rows } = checkOrder(await deployment.events(), new Random("mute"), 100);
    expect(wrong).toEqual([]);
    expect(rows).toBeGreaterThan(0);
  });
});

test("a limit of watches is named with its setting, and what cannot be watched is looked at again and again", async () => {
  await withCapture({ backend: limited(3), rescan: "10m" }, async ({ deployment, root, agent }) => {
    const { database } = deployment;
    await runFileWriters([{ database, root, writer: 0, commits: 60, delayMs: 2, deleteAge: 100 }], 60_000);
    change(root, 1);
    await waitFor("everything", async () => isCaptured(deployment, root), { timeoutMs: 10_000 });
    expect(agent.status().files[0]?.problem).toMatch(
      /^\d+ directories .* cannot be watched \(ENOSPC\).*max_user_watches/,
    );
    expect(agent.status().files[0]?.rescans).toBe(0);
    const { wrong, rows } = checkOrder(await deployment.events(), new Random("limited"), 100);
    expect(wrong).toEqual([]);
    expect(rows).toBeGreaterThan(0);
  });
});

test("where changes are not announced a file may be gone before it is seen, but never at a consistent point", async () => {
  await withCapture({ backend: limited(3), rescan: "10m" }, async ({ deployment, root, agent }) => {
    const { database } = deployment;
    for (const writer of [1, 2])
      await runFileWriters([{ database, root, writer, commits: 40, delayMs: 0, deleteAge: 1 }], 60_000);
    await agent.sync();
    const events = await deployment.events();
    const { wrongWhereConsistent, consistent } = checkOrder(events, new Random("gone"), events.length);
    expect(wrongWhereConsistent).toEqual([]);
    expect(consistent).toBeGreaterThan(0);
  });
});

test("a stop does not wait until a set has fetched what was committed meanwhile from databases that have stopped", async () => {
  let stoppedMs = 0;
  await withCapture({ backend: inotify, rescan: "10m" }, async ({ deployment, root, agent }) => {
    await agent.sync();
    // Gone before it is seen: the commits are asked for that may have ended its row.
    fs.writeFileSync(path.join(root, "there/file"), "gone");
    execFileSync("sqlite3", [deployment.database, "INSERT INTO files VALUES ('there/file', 1)"]);
    fs.rmSync(path.join(root, "there/file"));
    stoppedMs = performance.now();
  });
  expect(performance.now() - stoppedMs).toBeLessThan(10_000);
});

test("after a while without announcements commits wait for a scan, and for those made until then", async () => {
  const backend = new Interrupted();
  await withCapture({ backend, rescan: "10m" }, async ({ deployment, root, agent }) => {
    const { database } = deployment;
    backend.isSilent = true;
    await runFileWriters([{ database, root, writer: 1, commits: 40, delayMs: 0, deleteAge: 1 }], 60_000);
    backend.isSilent = false;
    await runFileWriters([{ database, root, writer: 2, commits: 40, delayMs: 2, deleteAge: 1 }], 60_000);
    await agent.sync();
    expect(agent.status().overtaken).toBe(0);
    const events = await deployment.events();
    expect(checkOrder(events, new Random("interrupted"), events.length).wrong).toEqual([]);
  });
});

test("what came unannounced may go until the scan comes to its place, and its row with it", async () => {
  const backend = new Interrupted();
  await withCapture({ backend, rescan: "10m" }, async ({ deployment, root, agent }) => {
    await agent.sync();
    const file = path.join(root, "there/file");
    const sql = (text: string): void => void execFileSync("sqlite3", [deployment.database, text]);
    let scanned = false;
    onCrashPoint((point) => {
      if (point !== "tree: directory listed" || scanned) return;
      scanned = true;
      sql("BEGIN; DELETE FROM files; INSERT INTO changes (name) VALUES ('there/file'); COMMIT");
      fs.rmSync(file);
    });
    backend.isSilent = true;
    fs.writeFileSync(file, fileContent("there/file", 1, new Random("unannounced")));
    sql(`BEGIN; INSERT INTO files VALUES ('there/file', 1);
      INSERT INTO changes (name, version) VALUES ('there/file', 1); COMMIT`);
    await waitFor("the commit waits for what was announced before it", () => backend.waiting > 0, { everyMs: 5 });
    backend.fail();
    await waitFor("the scan that the commit waits for", () => scanned, { everyMs: 5 });
    await agent.sync();
    expect(agent.status().overtaken).toBe(0);
    const events = await deployment.events();
    expect(checkOrder(events, new Random("unannounced"), events.length).wrong).toEqual([]);
  });
});

test("an event loop that stood still has lost nothing when little was announced then", async () => {
  await withCapture({ backend: inotify, rescan: "10m" }, async ({ deployment, root, agent }) => {
    await agent.sync();
    const { rescans } = agent.status().files[0] ?? {};
    change(root, 1);
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1300);
    await agent.sync();
    expect(await isCaptured(deployment, root)).toBe(true);
    expect(agent.status().files[0]?.rescans).toBe(rescans);
  });
});

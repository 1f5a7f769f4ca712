import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

import Database from "better-sqlite3";
import { afterEach, beforeEach, expect, test } from "vitest";

import { type Offset, offset } from "../../src/event/positions.ts";
import { contentId } from "../../src/tree/content-id.ts";
import { ArchiveScene } from "../support/archive-scene.ts";
import { flipBits } from "../support/bit-rot.ts";
import type { ImagedDatabase } from "../support/database-images.ts";
import { applied, failure, type ReplicaFixture } from "../support/replica-fixture.ts";
import { checked, PAGE, requireEqual, Said, status } from "../support/standby-scene.ts";
import { contentsOf, StandbyTreeScene } from "../support/standby-tree.ts";
import { waitFor } from "../support/wait.ts";

let trees: StandbyTreeScene;
let fixture: ReplicaFixture;
let scene: ArchiveScene;
let primary: ImagedDatabase;
let said: Said;
beforeEach(async () => {
  trees = await StandbyTreeScene.open({ inline: 1000 });
  ({ fixture } = trees);
  scene = new ArchiveScene(fixture);
  said = new Said();
  primary = fixture.source("a.db");
  primary.connection.exec("INSERT INTO t (body) VALUES (randomblob(400000))");
  trees.write("deep/er/file.bin", randomBytes(200_000));
  trees.write("small.txt", "a few words");
  await fixture.log.ship("a.db", primary);
  await trees.publish();
});
afterEach(async () => {
  await scene[Symbol.asyncDispose]();
  await trees[Symbol.asyncDispose]();
});

const known = (): { repositories: ReturnType<ArchiveScene["repository"]>[] } => ({
  repositories: [scene.repository()],
});

/** More of everything. Returns the log's head. */
async function more(): Promise<Offset> {
  primary.connection.exec("INSERT INTO t (body) VALUES (randomblob(50000))");
  await fixture.log.ship("a.db", primary);
  trees.write(`more/${fixture.log.writer.head}.bin`, randomBytes(150_000));
  fs.rmSync(path.join(trees.root, "small.txt"), { force: true });
  return trees.publish();
}

/** Everything is archived, with a base before the newest events, and the replica stopped at the head. */
async function archived(): Promise<void> {
  const agent = await fixture.ready();
  await checked(agent);
  scene.start(agent);
  await waitFor("a base", () => scene.agent.status()[0]?.base);
  await applied(agent, await more());
  await scene.stop();
  await fixture.stop();
}

function requireTrees(): void {
  expect(contentsOf(trees.standby).sort()).toEqual(contentsOf(trees.root).sort());
}

test("damaged pages, a lost file, a damaged index and a lost content come back from the repository", async () => {
  await archived();
  await fixture.log.log.trim(fixture.log.writer.head);
  // Of the base; of the events after it.
  flipBits(fixture.file("a.db"), [30 * PAGE + 7, (primary.sizePages - 2) * PAGE + 5]);
  fs.writeFileSync(path.join(trees.standby, "deep/er/file.bin"), randomBytes(200_000));
  const agent = await fixture.ready({ ...known(), logger: said.logger });
  await checked(agent);
  await waitFor("a comparison of the trees", () => agent.status().treeScrub.at);
  expect(status(agent)).toMatchObject({ repairs: 1, scrub: { differing: 2 } });
  expect(agent.status()).toMatchObject({ verified: true, treeScrub: { differing: 1 } });
  requireTrees();
  await fixture.stop();
  const state = new Database(path.join(fixture.standby, ".tidemark", "state.db"));
  const damaged = state.prepare("UPDATE page_index SET checksum = '0000000000000000'").run();
  state.close();
  expect(damaged.changes).toBe(1);
  await checked(await fixture.ready({ ...known(), logger: said.logger }));
  expect(said.text).toContain("the page index is damaged");
  await fixture.stop();
  fs.rmSync(fixture.file("a.db"));
  await checked(await fixture.ready(known()));
  await requireEqual(fixture, primary);
});

test("a new standby on a trimmed log is built from a base and the events after it, and goes on", async () => {
  await archived();
  const head = await more();
  // Between the base and the trim there are events that only segments hold.
  await fixture.log.log.trim(offset(head - 8));
  fs.rmSync(fixture.standby, { recursive: true });
  const agent = await fixture.ready({ ...known(), logger: said.logger });
  expect(said.text).toContain("the standby is built from");
  requireTrees();
  await applied(agent, await more());
  requireTrees();
  await checked(agent);
  await waitFor("a comparison of the trees", () => agent.status().treeScrub.at);
  expect(agent.status()).toMatchObject({ verified: true, treeScrub: { differing: 0, strays: 0 } });
  await requireEqual(fixture, primary);
});

test("a repository that is begun later gets the contents that new events name and the log has lost", async () => {
  await archived();
  await fixture.log.log.trim(fixture.log.writer.head);
  const agent = await fixture.ready(known());
  scene.start(agent, [scene.repository("late")]);
  await waitFor("a base", () => scene.agent.status()[0]?.base);
  trees.write("again.txt", "a few words");
  await applied(agent, await trees.publish());
  await scene.stop();
  requireTrees();
  await using late = await scene.open("late");
  const id = Buffer.from(contentId(Buffer.from("a few words")), "latin1");
  expect(Buffer.from(await late.blobs.read(id, AbortSignal.timeout(5000))).toString()).toBe("a few words");
});

test("a standby that was left behind goes on with the segments, is built anew when they are gone, and says so when there is no repository", async () => {
  await fixture.ready();
  await fixture.stop();
  await trimmedByAnother();
  const behind = await failure((await fixture.start()).done);
  expect(behind.code).toBe("LOG_GAP");
  expect(behind.message).toContain("it knows no repository");
  expect(behind.hint).toContain("repository:");
  await checked(await fixture.ready({ ...known(), logger: said.logger }));
  requireTrees();
  expect(said.text).not.toContain("built");
  await fixture.stop();
  await trimmedByAnother();
  fs.rmSync(path.join(scene.directory(), "segments"), { recursive: true });
  const agent = await fixture.ready({ ...known(), logger: said.logger });
  expect(said.text).toContain("it is built anew from");
  requireTrees();
  await applied(agent, await more());
  requireTrees();
  await requireEqual(fixture, primary);
});

/** Another standby goes on, archives what comes, makes a base and trims the log up to it. */
async function trimmedByAnother(): Promise<void> {
  const agent = await fixture.ready({ directory: path.join(fixture.directory, "other") });
  scene.start(agent);
  await applied(agent, await more());
  await scene.base();
  await scene.stop();
  await fixture.stop();
  await fixture.log.log.trim(fixture.log.writer.head);
}

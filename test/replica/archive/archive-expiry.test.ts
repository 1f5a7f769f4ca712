import { afterEach, beforeEach, expect, test } from "vitest";

import { ArchiveScene } from "../../support/archive-scene.ts";
import type { ReplicaFixture } from "../../support/replica-fixture.ts";
import { waitFor } from "../../support/wait.ts";

let fixture: ReplicaFixture;
let scene: ArchiveScene;
beforeEach(async () => {
  ({ scene, fixture } = await ArchiveScene.open());
});
afterEach(() => scene[Symbol.asyncDispose]());

const { signal } = new AbortController();

async function listed(): Promise<number> {
  await using repository = await scene.open();
  return (await repository.bases.list(signal)).length;
}

test("after a base the rules are applied where there are some, and not more than once a day", async () => {
  const primary = fixture.source("a.db");
  await fixture.log.ship("a.db", primary);
  const agent = await fixture.ready();
  const change = async (): Promise<void> => {
    primary.connection.exec("INSERT INTO t (body) VALUES (randomblob(3000))");
    await fixture.log.ship("a.db", primary);
    await scene.base();
  };
  scene.start(agent);
  for (let round = 0; round < 4; round += 1) await change();
  expect(scene.agent.status()[0]?.expiredMs).toBeUndefined();
  expect(await listed()).toBeGreaterThanOrEqual(4);
  await scene.stop();

  const expiry = { rules: { last: 1 }, rewrites: true };
  scene.start(agent, [{ ...scene.repository(), expiry }]);
  await change();
  await waitFor("the rules to be applied", () => scene.agent.status()[0]?.expiredMs);
  expect(await listed()).toBe(2);
  const [{ problem } = {}] = scene.agent.status();
  expect(problem).toBeUndefined();
  await change();
  await change();
  expect(await listed()).toBe(4);
});

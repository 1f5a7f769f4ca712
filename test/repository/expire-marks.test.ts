import { afterEach, beforeEach, expect, test } from "vitest";

import { offset } from "../../src/event/positions.ts";
import { decide } from "../../src/repository/expire/decide.ts";
import { expireRepository } from "../../src/repository/expire/expire.ts";
import type { PresentBase } from "../../src/repository/expire/inventory.ts";
import type { Repository } from "../../src/repository/repository.ts";
import { Random } from "../support/random.ts";
import { RepositoryFixture } from "../support/repository-fixture.ts";
import { HOUR_MS, RetainedLife, SetClock } from "../support/retained-life.ts";

// What keeps a writer from referring to what is on its way out; each of these alone is one of several nets.

const random = new Random("marks");
let fixture: RepositoryFixture;
let clock: SetClock;
let agent: Repository;
beforeEach(async () => {
  fixture = new RepositoryFixture({ inMemory: true });
  clock = new SetClock();
  const life = new RetainedLife(random, clock);
  agent = await fixture.open({ clock, cacheDirectory: `${fixture.cache}-agent` });
  life.change();
  await life.base(agent, { verified: true });
});
afterEach(async () => fixture[Symbol.asyncDispose]());

/** Returns its name, and how many blobs it took. */
async function stored(data: Uint8Array): Promise<{ readonly id: Uint8Array; readonly blobs: number }> {
  await using writer = agent.blobs.writer(fixture.signal);
  const id = await writer.add("chunk", data);
  return { id, blobs: (await writer.finish(fixture.signal)).blobs };
}

/** By another host. */
async function expires(): Promise<void> {
  fixture.forgetCache();
  await using repository = await fixture.open({ clock });
  const { signal } = fixture;
  await expireRepository(repository, { rules: { last: 1 }, confirm: true, rewrites: true, clock, signal });
}

test("what was marked is stored again an hour later, by whoever knew it unmarked", async () => {
  const data = random.bytes(5000);
  expect((await stored(data)).blobs).toBe(1);
  expect((await stored(data)).blobs).toBe(0);
  await expires();
  clock.nowMs += HOUR_MS + 60_000;
  expect((await stored(data)).blobs).toBe(1);
});

test("a mark outlives what it named by a day: a store may list late what is gone", async () => {
  const agentStore = fixture.store;
  const { id } = await stored(random.bytes(5000));
  await expires();
  await agent.blobs.refresh(fixture.signal);
  await agentStore.listAsNow("index/", fixture.signal);
  for (const hours of [25, 1]) {
    clock.nowMs += hours * HOUR_MS;
    await expires();
  }
  await agent.blobs.refresh(fixture.signal);
  expect(agent.blobs.has(id)).toBe(false);
  await expect(agent.blobs.read(id, fixture.signal)).rejects.toMatchObject({ code: "OBJECT_MISSING" });
});

test("the newest segment stays, also behind bases of another archiver that is further: the archive goes on from it", () => {
  const base = (at: number): PresentBase => {
    const uuid = `00000000-0000-4000-8000-0000000000${at}`;
    const info = { name: `bases/${at}`, bytes: 1, offset: offset(at), uuid };
    return { id: uuid, offset: offset(at), timeMs: at, verified: true, notes: [], info };
  };
  const segments = [
    [1, 5],
    [6, 10],
  ].map(([first = 0, last = 0]) => {
    return { name: `segments/${first}`, bytes: 1, first: offset(first), last: offset(last), uuid: "" };
  });
  const { keptSegments } = decide({ bases: [base(20), base(30)], segments, orphans: [] }, { last: 1 });
  expect(keptSegments.map(({ last }) => last)).toEqual([10]);
});

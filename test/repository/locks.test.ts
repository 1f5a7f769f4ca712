import { afterEach, beforeEach, expect, test } from "vitest";

import { systemClock } from "../../src/runtime/clock.ts";
import { RepositoryFixture } from "../support/repository-fixture.ts";

let fixture: RepositoryFixture;
beforeEach(() => (fixture = new RepositoryFixture()));
afterEach(async () => fixture[Symbol.asyncDispose]());

const HALF_AN_HOUR_MS = 30 * 60_000;

test("shared ones stand beside each other; an exclusive one beside none, which is told with whose it is", async () => {
  const [one, other] = [await fixture.open(), await fixture.open()];
  const locked = {
    code: "REPOSITORY_LOCKED",
    message: expect.stringMatching(new RegExp(`process ${process.pid} on `)) as string,
  };
  const shared = await one.lock("shared", fixture.signal);
  const second = await other.lock("shared", fixture.signal);
  await expect(other.lock("exclusive", fixture.signal)).rejects.toMatchObject(locked);
  await shared[Symbol.asyncDispose]();
  await second[Symbol.asyncDispose]();
  const exclusive = await other.lock("exclusive", fixture.signal);
  await expect(one.lock("shared", fixture.signal)).rejects.toMatchObject(locked);
  await expect(one.lock("exclusive", fixture.signal)).rejects.toMatchObject(locked);
  await exclusive[Symbol.asyncDispose]();
  await (await one.lock("shared", fixture.signal))[Symbol.asyncDispose]();
  expect(fixture.names("locks/")).toEqual([]);
});

test("of many who want it for themselves at once at most one gets it", async () => {
  const repository = await fixture.open();
  const tries = await Promise.allSettled(Array.from({ length: 6 }, () => repository.lock("exclusive", fixture.signal)));
  const held = tries.filter(({ status }) => status === "fulfilled");
  expect(held.length).toBeLessThanOrEqual(1);
  for (const one of tries) if (one.status === "fulfilled") await one.value[Symbol.asyncDispose]();
});

test("what somebody who died left behind counts for half an hour, what is damaged not at all", async () => {
  const long = await fixture.open({ clock: { ...systemClock, now: () => Date.now() - HALF_AN_HOUR_MS - 5000 } });
  const dead = await long.lock("exclusive", fixture.signal);
  const repository = await fixture.open();
  fixture.replace("locks/00000000-0000-4000-8000-000000000000", Buffer.from("torn"));
  await (await repository.lock("exclusive", fixture.signal))[Symbol.asyncDispose]();
  expect(fixture.names("locks/")).toEqual([]);
  await dead[Symbol.asyncDispose]();
});

test("where nothing can be removed a lock is released all the same", async () => {
  const repository = await fixture.open();
  fixture.store.on({ call: "remove", name: /^locks/, fault: { kind: "fail", code: "OBJECT_LOCKED" } });
  await (await repository.lock("exclusive", fixture.signal))[Symbol.asyncDispose]();
  expect(fixture.names("locks/").length).toBe(2);
  await (await repository.lock("exclusive", fixture.signal))[Symbol.asyncDispose]();
});

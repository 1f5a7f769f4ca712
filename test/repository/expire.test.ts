import { afterEach, beforeEach, expect, test } from "vitest";

import type { Repository } from "../../src/repository/repository.ts";
import { verifyRepository } from "../../src/repository/verify.ts";
import type { VerifyProblem } from "../../src/repository/verify-report.ts";
import { expiringLife } from "../support/expiring-life.ts";
import { Random } from "../support/random.ts";
import { RepositoryFixture } from "../support/repository-fixture.ts";
import { HOUR_MS, RetainedLife, SetClock } from "../support/retained-life.ts";

const random = new Random("expire");
let fixture: RepositoryFixture;
let clock: SetClock;
beforeEach(() => {
  fixture = new RepositoryFixture({ inMemory: true });
  clock = new SetClock();
});
afterEach(async () => fixture[Symbol.asyncDispose]());

/** As another host, or the next command: with what is in the repository alone. */
async function anew<T>(work: (repository: Repository) => Promise<T>): Promise<T> {
  fixture.forgetCache();
  await using repository = await fixture.open({ clock });
  return await work(repository);
}

test.each([0, 1])(
  "a life with bases, segments, restores and expiries: what is retained can be restored, what is not goes (%i)",
  async () => {
    const { expiries, kept } = await expiringLife(random, { steps: 25 });
    expect(expiries).toBeGreaterThan(6);
    expect(kept).toBeLessThanOrEqual(3);
  },
);

/** With bases of which some go, and contents that only those need. `days`: each has changes and a base. */
async function lived(life: RetainedLife, repository: Repository, days = 8): Promise<void> {
  for (let day = 0; day < days; day += 1) {
    clock.nowMs += 24 * HOUR_MS;
    life.change();
    await life.archive(repository);
    life.change();
    await life.base(repository, { verified: true });
  }
}

test("small packs of which everything is needed are not written anew, again and again", async () => {
  const life = new RetainedLife(random, clock, { contentBytes: 3 });
  await anew((repository) => lived(life, repository));
  const { rewritten } = await anew((repository) => life.expire(repository, { last: 100 }));
  expect(rewritten.packs).toBe(0);
});

test("a dry run tells what would be, and changes nothing; the same run for good does that", async () => {
  const life = new RetainedLife(random, clock);
  await anew((repository) => lived(life, repository));
  const before = fixture.names();
  const dry = await anew((repository) => life.expire(repository, { last: 3 }, false));
  expect(fixture.names()).toEqual(before);
  const done = await anew((repository) => life.expire(repository, { last: 3 }));
  expect({ ...done, confirmed: false }).toEqual(dry);
  expect(dry.bases.map(({ reasons }) => reasons.length > 0)).toEqual([true, true, true, ...Array(5).fill(false)]);
  expect(dry.freed.objects).toBe(0);
  expect(dry.later.packs).toBeGreaterThan(0);
  expect(dry.later.notBeforeMs).toBe(clock.nowMs + 24 * HOUR_MS);
  // Two verified ones lead to the present, the third is there by itself.
  expect(dry.window.after?.from.offset).toBe(dry.bases[1]?.base.offset);
  expect(dry.window.before?.from.offset).toBe(1);
  // Not before a day has passed.
  clock.nowMs += 23 * HOUR_MS;
  expect((await anew((repository) => life.expire(repository, { last: 3 }))).freed.objects).toBe(0);
  clock.nowMs += 2 * HOUR_MS;
  const { freed } = await anew((repository) => life.expire(repository, { last: 3 }));
  expect([freed.packs, freed.bytes]).toEqual([dry.later.packs, dry.later.bytes]);
  expect(fixture.names("bases/")).toHaveLength(3);
});

test("what is marked is kept again when other rules keep it, or when something refers to it", async () => {
  const life = new RetainedLife(random, clock);
  await using agent = await fixture.open({ clock, cacheDirectory: `${fixture.cache}-agent` });
  await lived(life, agent, 6);
  // The two bases that stay have no content of a file: whatever comes back was marked.
  life.removeAll();
  await life.base(agent, { verified: true });
  clock.nowMs += 24 * HOUR_MS;
  await life.base(agent, { verified: true });
  await anew((repository) => life.expire(repository, { last: 1 }));
  expect(await anew(async ({ bases }) => (await bases.list(fixture.signal)).length)).toBe(2);
  const again = await anew((repository) => life.expire(repository, { last: 100 }));
  expect(again.unmarked).toBeGreaterThan(6);
  expect(await anew((repository) => life.requireRetained(repository))).toMatchObject({ bases: 8 });

  // A content that only expired bases have comes back, and the writer has not seen the mark.
  clock.nowMs += HOUR_MS / 2;
  await agent.blobs.refresh(fixture.signal);
  await anew((repository) => life.expire(repository, { last: 1 }));
  life.putAll();
  await life.archive(agent);
  clock.nowMs += 25 * HOUR_MS;
  const { unmarked } = await anew((repository) => life.expire(repository, { last: 1 }));
  expect(unmarked).toBeGreaterThan(0);
  await anew((repository) => life.requireRetained(repository));
});

test("a writer that slept for hours refers to nothing that was marked meanwhile", async () => {
  const life = new RetainedLife(random, clock);
  await using agent = await fixture.open({ clock, cacheDirectory: `${fixture.cache}-agent` });
  await lived(life, agent);
  await agent.blobs.refresh(fixture.signal);
  life.putAll();
  const sleep = async (): Promise<void> => {
    for (let day = 0; day < 3; day += 1) {
      clock.nowMs += 25 * HOUR_MS;
      await anew((repository) => life.expire(repository, { last: 1 }));
    }
  };
  await expect(life.archive(agent, sleep)).rejects.toMatchObject({ code: "REPOSITORY_CHANGED" });
  await life.archive(agent);
  await anew((repository) => life.requireRetained(repository));
  // A base that slept is not written either: its lock was left behind by then.
  await expect(life.base(agent, { pause: sleep })).rejects.toMatchObject({ code: "REPOSITORY_CHANGED" });
  await anew((repository) => life.requireRetained(repository));
});

test("two at once, and one beside a restore or a base: nothing is harmed, the later is told who is there", async () => {
  const life = new RetainedLife(random, clock);
  await anew((repository) => lived(life, repository));
  const [one, other] = [
    await fixture.open({ clock }),
    await fixture.open({ clock, cacheDirectory: `${fixture.cache}-2` }),
  ];
  const locked = { code: "REPOSITORY_LOCKED", message: expect.stringMatching(/process \d+ on /) as string };
  const ended = await Promise.allSettled([one, other].map((each) => life.expire(each, { last: 1 })));
  for (const end of ended) if (end.status === "rejected") expect(end.reason).toMatchObject(locked);
  const restore = await one.announce(fixture.signal);
  clock.nowMs += 25 * HOUR_MS;
  const renewed = await one.announce(fixture.signal);
  await expect(life.expire(other, { last: 1 })).rejects.toMatchObject(locked);
  await life.expire(other, { last: 1 }, false);
  await restore[Symbol.asyncDispose]();
  await renewed[Symbol.asyncDispose]();
  // A restore begins also while somebody removes.
  const exclusive = await other.lock("exclusive", fixture.signal);
  await (await one.announce(fixture.signal))[Symbol.asyncDispose]();
  await exclusive[Symbol.asyncDispose]();
  await life.expire(other, { last: 1 });
  await anew((repository) => life.requireRetained(repository));
});

async function problems(): Promise<readonly VerifyProblem[]> {
  const options = { share: 1, random: Math.random, signal: fixture.signal, onProgress: () => undefined };
  return anew(async (repository) => (await verifyRepository(repository, options)).problems);
}

test("what index objects that are lost have named is restored, and named again", async () => {
  const life = new RetainedLife(random, clock);
  await anew((repository) => lived(life, repository));
  for (const name of fixture.names("index/")) fixture.remove(name);
  expect(await anew((repository) => life.requireRetained(repository))).toMatchObject({ bases: 8 });
  expect(await problems()).not.toEqual([]);
  await anew((repository) => life.expire(repository, { last: 3 }));
  expect(await problems()).toEqual([]);
  expect(await anew((repository) => life.requireRetained(repository))).toMatchObject({ bases: 3 });
});

test("what the store keeps under a lock is told, stays marked, and is no damage", async () => {
  const life = new RetainedLife(random, clock);
  await anew((repository) => lived(life, repository));
  await anew((repository) => life.expire(repository, { last: 2 }));
  clock.nowMs += 25 * HOUR_MS;
  const kept = await anew(async (repository) => {
    fixture.store.on({ call: "remove", name: /^(index|bases)/, fault: { kind: "fail", code: "OBJECT_LOCKED" } });
    return life.expire(repository, { last: 2 });
  });
  // A base that stays keeps what it needs: it may be kept again by other rules.
  expect(kept.locked.objects).toBeGreaterThan(5);
  expect(await problems()).toEqual([]);
  await anew((repository) => life.expire(repository, { last: 100 }));
  expect(await anew((repository) => life.requireRetained(repository))).toMatchObject({ bases: 8 });
});

test("of a damaged repository nothing expires", async () => {
  const life = new RetainedLife(random, clock);
  await anew((repository) => lived(life, repository));
  const saved = fixture.names("packs/").map((name) => [name, fixture.bytesOf(name)] as const);
  for (const [name] of saved) fixture.remove(name);
  const before = fixture.names().filter((name) => !name.startsWith("locks/"));
  for (const confirm of [false, true]) {
    const failed = anew((repository) => life.expire(repository, { last: 100 }, confirm));
    await expect(failed).rejects.toMatchObject({ code: "OBJECT_MISSING" });
  }
  expect(fixture.names().filter((name) => !name.startsWith("locks/"))).toEqual(before);
  for (const [name, bytes] of saved) fixture.replace(name, bytes);
  // A mark that cannot be read may have named anything: it goes, and with it what it kept from being referred to.
  await anew((repository) => life.expire(repository, { last: 100 }));
  const torn = "expired/00000000-0000-4000-8000-000000000000";
  fixture.replace(torn, Buffer.from("torn"));
  await anew((repository) => life.expire(repository, { last: 100 }));
  expect(fixture.names("expired/")).not.toContain(torn);
  await anew((repository) => life.requireRetained(repository));
});

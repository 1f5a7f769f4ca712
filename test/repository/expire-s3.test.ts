import { afterEach, beforeEach, expect, test } from "vitest";

import type { Repository } from "../../src/repository/repository.ts";
import { S3Store } from "../../src/repository/s3-store.ts";
import { verifyRepository } from "../../src/repository/verify.ts";
import { type Clock, systemClock } from "../../src/runtime/clock.ts";
import { Random } from "../support/random.ts";
import { RepositoryFixture } from "../support/repository-fixture.ts";
import { HOUR_MS, RetainedLife, SetClock } from "../support/retained-life.ts";
import { S3Bucket } from "../support/s3-server.ts";
import { waitFor } from "../support/wait.ts";

const DAY_MS = 24 * HOUR_MS;
const RULES = { last: 2 };
const signal = AbortSignal.timeout(120_000);

let fixture: RepositoryFixture;
let clock: SetClock;
let life: RetainedLife;
beforeEach(() => {
  fixture = new RepositoryFixture();
  clock = new SetClock();
  life = new RetainedLife(new Random("expire s3"), clock);
});
afterEach(async () => fixture[Symbol.asyncDispose]());

type Anew = <T>(work: (repository: Repository) => Promise<T>) => Promise<T>;

/** Four bases in a bucket that locks everything; two of them are marked. `storeClock`: a lock is of a day after its now. */
async function lived(storeClock: Clock): Promise<Anew> {
  const { place } = await S3Bucket.make("lock");
  const objectLock = { mode: "COMPLIANCE", days: 1 } as const;
  const anew: Anew = async (work) => {
    fixture.forgetCache();
    const store = new S3Store(place, { objectLock, requests: 8, clock: storeClock });
    await using repository = await fixture.open({ store, clock });
    return await work(repository);
  };
  await anew(async (repository) => {
    for (let day = 0; day < 4; day += 1) {
      clock.nowMs += DAY_MS;
      life.change();
      await life.base(repository, { verified: true });
    }
    const marked = await life.expire(repository, RULES);
    expect(marked.later.objects).toBeGreaterThan(3);
  });
  clock.nowMs += DAY_MS;
  return anew;
}

test("under a COMPLIANCE lock nothing goes: that is told with the date, is no damage, and marks can be taken back", async () => {
  const anew = await lived(systemClock);
  const { freed, locked } = await anew((repository) => life.expire(repository, RULES));
  // Two bases with their notes, and at least a segment.
  expect([freed.objects, locked.objects > 4]).toEqual([0, true]);
  const leftMs = Date.parse(locked.until ?? "") - Date.now();
  expect(leftMs).toBeGreaterThan(DAY_MS - 180_000);
  expect(leftMs).toBeLessThan(DAY_MS + 60_000);
  const report = await anew((repository) =>
    verifyRepository(repository, { share: 1, random: Math.random, signal, onProgress: () => undefined }),
  );
  expect(report.problems).toEqual([]);
  const again = await anew((repository) => life.expire(repository, { last: 9 }));
  expect(again.unmarked).toBeGreaterThan(3);
  expect(await anew((repository) => life.requireRetained(repository))).toMatchObject({ bases: 4 });
});

test("when the locks have ended the next run removes what was refused", async () => {
  const anew = await lived({ ...systemClock, now: () => Date.now() - DAY_MS + 2000 });
  const freed = await waitFor("the locks to end", async () => {
    const { freed: amount, locked } = await anew((repository) => life.expire(repository, RULES));
    return locked.objects === 0 && amount.objects > 0 ? amount : undefined;
  });
  expect(freed.objects).toBeGreaterThan(0);
  expect(await anew((repository) => life.requireRetained(repository))).toMatchObject({ bases: 2 });
  await anew(async ({ objects }) => {
    const names = await Array.fromAsync(objects.store.list("bases/", signal));
    expect(names).toHaveLength(2);
  });
});

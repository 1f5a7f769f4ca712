import assert from "node:assert/strict";

import type { KeepConfig } from "../../src/config/config.ts";
import type { Repository } from "../../src/repository/repository.ts";
import { hasCode } from "../../src/runtime/errors.ts";
import type { Random } from "./random.ts";
import { RepositoryFixture } from "./repository-fixture.ts";
import { HOUR_MS, RetainedLife, SetClock } from "./retained-life.ts";

const RULES: readonly [KeepConfig, ...KeepConfig[]] = [
  { last: 1 },
  { last: 3, daily: 2 },
  { withinMs: 30 * HOUR_MS },
  { withinMs: 12 * HOUR_MS, daily: 3, weekly: 2 },
];

export interface ExpiringLifeFigures {
  readonly expiries: number;
  /** Bases that were left. */
  readonly kept: number;
}

/**
 * Changes, segments, bases and expiries by changing rules, with pauses of days in the middle of them. After each expiry all
 * that is retained is restored; in the end nothing is left that nothing needs. @throws when it is not so
 */
export async function expiringLife(
  random: Random,
  { steps }: { readonly steps: number },
): Promise<ExpiringLifeFigures> {
  await using scene = new ExpiringLife(random);
  await scene.live(steps);
  return await scene.end();
}

class ExpiringLife implements AsyncDisposable {
  readonly #fixture = new RepositoryFixture({ inMemory: true });
  readonly #clock = new SetClock();
  readonly #random: Random;
  readonly #life: RetainedLife;
  #expiries = 0;

  constructor(random: Random) {
    this.#random = random;
    this.#life = new RetainedLife(random, this.#clock);
  }

  async live(steps: number): Promise<void> {
    // One that lives long, with an index that gets old.
    const cacheDirectory = `${this.#fixture.cache}-agent`;
    const agent = await this.#fixture.open({ clock: this.#clock, cacheDirectory });
    for (let step = 0; step < steps; step += 1) {
      this.#clock.nowMs += this.#random.integer(0, 8) * HOUR_MS;
      this.#life.change();
      await unless("REPOSITORY_CHANGED", () => this.#archive(agent));
      if (this.#random.next() < 0.4) await this.#expire(this.#random.pick(RULES));
    }
    await this.#life.base(agent);
  }

  /** Nothing more comes: what nothing needs is gone after some days. */
  async end(): Promise<ExpiringLifeFigures> {
    const rules = { last: 1 };
    for (let day = 0; day < 6; day += 1) {
      this.#clock.nowMs += 25 * HOUR_MS;
      await this.#expire(rules);
    }
    const idle = await this.#anew((repository) => this.#life.expire(repository, rules, false));
    assert.deepEqual([idle.freed.objects, idle.later.objects], [0, 0]);
    assert.deepEqual(this.#fixture.names("expired/"), []);
    return { expiries: this.#expiries, kept: idle.bases.length };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#fixture[Symbol.asyncDispose]();
  }

  async #archive(agent: Repository): Promise<void> {
    const pause = this.#random.next() < 0.2 ? (): Promise<void> => this.#meanwhile() : undefined;
    if (this.#random.next() < 0.4) await this.#life.base(agent, pause && { pause });
    else await this.#life.archive(agent, pause);
  }

  async #meanwhile(): Promise<void> {
    for (let count = this.#random.integer(0, 2); count > 0; count -= 1) {
      this.#clock.nowMs += this.#random.integer(0, 30) * HOUR_MS;
      await this.#expire(this.#random.pick(RULES));
    }
  }

  async #expire(rules: KeepConfig): Promise<void> {
    this.#expiries += 1;
    await unless("REPOSITORY_LOCKED", () => this.#anew((repository) => this.#life.expire(repository, rules)));
    await this.#anew((repository) => this.#life.requireRetained(repository));
  }

  /** As another host, or the next command: with what is in the repository alone. */
  async #anew<T>(work: (repository: Repository) => Promise<T>): Promise<T> {
    this.#fixture.forgetCache();
    await using repository = await this.#fixture.open({ clock: this.#clock });
    return await work(repository);
  }
}

async function unless(code: "REPOSITORY_CHANGED" | "REPOSITORY_LOCKED", work: () => Promise<unknown>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!hasCode(error, code)) throw error;
  }
}

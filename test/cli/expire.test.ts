import fs from "node:fs";
import path from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import { Random } from "../support/random.ts";
import { RepositoryFixture } from "../support/repository-fixture.ts";
import { HOUR_MS, RetainedLife, SetClock } from "../support/retained-life.ts";
import { type CliResult, runTidemark } from "../support/tidemark-cli.ts";

let fixture: RepositoryFixture;
let clock: SetClock;
let life: RetainedLife;
/** The last of six days is today, and what goes was marked the day before yesterday. */
beforeEach(async () => {
  fixture = new RepositoryFixture();
  clock = new SetClock(Date.now() - 8 * 24 * HOUR_MS);
  life = new RetainedLife(new Random("expire cli"), clock);
  const repository = await fixture.open({ clock });
  for (let day = 0; day < 6; day += 1) {
    clock.nowMs += 24 * HOUR_MS;
    life.change();
    await life.base(repository, { verified: true });
  }
  await life.expire(repository, { last: 4 });
});
afterEach(async () => fixture[Symbol.asyncDispose]());

interface Said {
  readonly ok: boolean;
  readonly repositories: readonly {
    readonly rules: object;
    readonly bases: readonly { readonly keep: boolean; readonly reasons: readonly string[] }[];
    readonly freed: { readonly packs: number; readonly bytes: number };
    readonly later: { readonly objects: number; readonly notBefore: string | null };
    readonly window: { readonly after: { readonly from: { readonly offset: number; readonly at: string } } };
  }[];
}

async function expire(...words: string[]): Promise<CliResult> {
  return runTidemark(["expire", ...words], { cwd: path.dirname(fixture.directory) });
}

function said({ code, stdout, stderr }: CliResult): Said {
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout) as Said;
}

test("rules of the file, a dry run, what is removed now and what later, also for people", async () => {
  const config = path.join(path.dirname(fixture.directory), "tidemark.yml");
  fs.writeFileSync(config, `set: shop\nrepository: { path: ${fixture.directory}, keep: { last: 3 } }\n`);
  const before = fixture.names();
  const [dry] = said(await expire("--json")).repositories;
  expect(fixture.names()).toEqual(before);
  expect(dry?.bases.map(({ keep }) => keep)).toEqual([true, true, true, false, false, false]);
  expect(dry?.bases[1]?.reasons).toEqual(["minimum of verified bases", "last"]);
  expect(dry?.freed.packs).toBeGreaterThan(0);
  const people = await expire();
  expect(people).toMatchObject({ code: 0, stdout: expect.stringMatching(/keeps last 3\n/) as string });
  expect(people.stdout).toMatch(/would be removed: \d+ objects, \d+ of them packs/);
  expect(people.stdout).toMatch(/would be removed by a run after 20/);
  expect(people.stdout).toContain("nothing was changed; --confirm does it");

  // Named on the command line it is the same repository, with the same rules.
  const [done] = said(await expire("--repository", "repository", "--confirm", "--json")).repositories;
  expect(done).toMatchObject({ rules: { last: 3, default: false }, freed: dry?.freed ?? {} });
  expect(Date.parse(done?.later.notBefore ?? "")).toBeGreaterThan(Date.now() + 23 * HOUR_MS);
  expect(fixture.names("bases/")).toHaveLength(4);
  const listed = await runTidemark(["bases", "--json", "--repository", fixture.directory]);
  expect((JSON.parse(listed.stdout) as { bases: object[] }).bases).toHaveLength(3);
  await life.requireRetained(await fixture.open({ cacheDirectory: `${fixture.cache}-fresh` }));
});

test("without rules the default ones count, and are said; somebody at work there is told, with 6", async () => {
  const [report] = said(await expire("--repository", fixture.directory, "--json")).repositories;
  expect(report?.rules).toMatchObject({ default: true, daily: 30 });
  expect(report?.bases.every(({ keep }) => keep)).toBe(true);
  const other = await fixture.open();
  const lock = await other.lock("shared", fixture.signal);
  const refused = await expire("--repository", fixture.directory, "--confirm", "--json");
  expect(refused.code).toBe(6);
  expect(JSON.parse(refused.stderr)).toMatchObject({ ok: false, code: "REPOSITORY_LOCKED" });
  await lock[Symbol.asyncDispose]();
});

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { expect, test } from "vitest";

import { Fossil } from "../support/apps/fossil.ts";
import { comparePages, committedImage } from "../support/compare.ts";
import { Deployment } from "../support/deployment.ts";

const CHECK_INS = 50;
/** Fossil's own first one included. */
const COUNT_CHECK_INS = "SELECT count(*) FROM event WHERE type = 'ci'";

test(
  "Fossil works under replication; its own check passes on the hot standby and on a restore to the middle",
  { timeout: 120_000 },
  async () => {
    await using deployment = new Deployment({ names: ["repo.fossil"] });
    const fossil = new Fossil(deployment.database, deployment.directory);
    await deployment.start("run");
    const seen: number[] = [];
    for (let number = 1; number <= CHECK_INS; number += 1) {
      fossil.commit(number);
      if (number === CHECK_INS / 2) await deployment.answer("mark", "middle");
      if (number % 20 === 10) seen.push(await checkInsOnStandby(deployment));
      await sleep(20);
    }
    expect(seen).toEqual([11, 31, 51]);
    fossil.run("rebuild", deployment.database);
    fossil.commit(CHECK_INS + 1);
    expect(await deployment.difference()).toBeUndefined();

    // Fossil writes into every repository that it opens, so it gets what a reader of the standby sees, as a file.
    const image = path.join(deployment.directory, "seen.fossil");
    fs.writeFileSync(image, committedImage(deployment.standbyDatabase));
    expect(fossil.integrityOf(image)).toContain("0 errors");
    expect(fossil.checkInsOf(image).length).toBe(CHECK_INS + 1);

    const middle = await deployment.restore("mark:middle");
    expect(middle.report).toMatchObject({ ok: true });
    expect(fossil.integrityOf(middle.database)).toContain("0 errors");
    const checkIns = fossil.checkInsOf(middle.database);
    expect(checkIns.length).toBe(CHECK_INS / 2);
    expect(checkIns[0]).toContain(`check-in ${CHECK_INS / 2}`);
    const latest = await deployment.restore("latest");
    expect(comparePages(latest.database, deployment.database)).toBeUndefined();
  },
);

/** What another program reads on the hot standby. */
async function checkInsOnStandby(deployment: Deployment): Promise<number> {
  await deployment.sync();
  const args = ["-readonly", deployment.standbyDatabase, COUNT_CHECK_INS];
  return Number(execFileSync("sqlite3", args, { encoding: "utf8" }));
}

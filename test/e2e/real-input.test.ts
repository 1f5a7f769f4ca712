import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { expect, test } from "vitest";

import { Fossil } from "../support/apps/fossil.ts";
import { comparePages, committedImage } from "../support/compare.ts";
import { Deployment } from "../support/deployment.ts";

const CHECK_INS = 60;
/** Fossil's own first one included. */
const COUNT_CHECK_INS = "SELECT count(*) FROM event WHERE type = 'ci'";

test("Fossil works under replication; its own check passes on the hot standby and on a restore to the middle", async () => {
  await using deployment = new Deployment({ names: ["repo.fossil"] });
  const fossil = new Fossil(deployment.database, deployment.directory);
  await deployment.start("run");
  for (let number = 1; number <= CHECK_INS; number += 1) {
    fossil.commit(number);
    if (number === CHECK_INS / 2) await deployment.answer("mark", "middle");
    if (number % 20 === 10) {
      await deployment.answer("sync", "--applied");
      const count = execFileSync("sqlite3", ["-readonly", deployment.standbyDatabase, COUNT_CHECK_INS], {
        encoding: "utf8",
      });
      expect(Number(count)).toBe(number + 1);
    }
    await sleep(20);
  }
  fossil.run("rebuild", deployment.database);
  fossil.commit(CHECK_INS + 1);
  expect(await deployment.difference()).toBeUndefined();

  // Fossil writes into every repository that it opens, so it gets what a reader of the standby sees, as a file.
  const seen = path.join(deployment.directory, "seen.fossil");
  fs.writeFileSync(seen, committedImage(deployment.standbyDatabase));
  expect(fossil.integrityOf(seen)).toContain("0 errors");
  expect(fossil.checkInsOf(seen).length).toBe(CHECK_INS + 1);

  const middle = await deployment.restore("mark:middle");
  expect(middle.report).toMatchObject({ ok: true });
  expect(fossil.integrityOf(middle.database)).toContain("0 errors");
  const checkIns = fossil.checkInsOf(middle.database);
  expect(checkIns.length).toBe(CHECK_INS / 2);
  expect(checkIns[0]).toContain(`check-in ${CHECK_INS / 2}`);
  const latest = await deployment.restore("latest");
  expect(comparePages(latest.database, deployment.database)).toBeUndefined();
  execFileSync("sqlite3", [latest.database, "PRAGMA integrity_check"]);
});

import fs from "node:fs";
import path from "node:path";

import { expect, test } from "vitest";

import { DEFAULT_BANK } from "../support/apps/bank.ts";
import { createBank, startWriter } from "../support/apps/bank-programs.ts";
import { bankDigest, Recorder } from "../support/apps/recorder.ts";
import { restoreHere } from "../support/copy-scene.ts";
import { Deployment } from "../support/deployment.ts";
import { Random } from "../support/random.ts";
import { within } from "../support/wait.ts";

const COMMITS = 400;
const RESTORES = 4;

test("granularity: commit makes an event of every commit, however far capture is behind; each can be restored", async () => {
  const random = new Random("granularity");
  await using deployment = new Deployment({ config: "granularity: commit" });
  const { database } = deployment;
  const journals = [1, 2].map((writer) => path.join(deployment.directory, `${writer}.journal`));
  await createBank(database, DEFAULT_BANK);
  const agent = await deployment.start("capture");
  // Everything that is written now is found in one look.
  agent.child.kill("SIGSTOP");
  const options = { database, bank: DEFAULT_BANK, rate: 1e6, burst: 100, limit: COMMITS / 2 };
  for (const [writer, journal] of journals.entries()) {
    await using program = await startWriter({ ...options, writer, journal });
    await within("the writer ends", 20_000, program.exited);
  }
  agent.child.kill("SIGCONT");
  await deployment.sync({ applied: false });
  const recorder = new Recorder(DEFAULT_BANK, journals);
  const events = (await deployment.events()).filter(({ body }) => body.kind === "sqlite.commit");
  expect(events.map(({ body }) => body.kind === "sqlite.commit" && [body.cause, body.commits])).toEqual([
    ["copy", 0],
    ...Array.from({ length: COMMITS }, () => ["commit", 1]),
  ]);
  for (let restores = 0; restores < RESTORES; restores += 1) {
    const seq = random.integer(1, COMMITS);
    const offset = events[seq]?.offset;
    if (offset === undefined) throw new Error(`the log holds no commit ${seq}`);
    const restored = await restoreHere(deployment, { kind: "offset", offset });
    const { seq: found, digest } = bankDigest(path.join(restored, "app.db"));
    expect([found, digest]).toEqual([seq, recorder.digestAt(seq)]);
    fs.rmSync(restored, { recursive: true });
  }
});

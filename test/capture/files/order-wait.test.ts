import fs from "node:fs";
import { fileURLToPath } from "node:url";

import { expect, test } from "vitest";

import type { CaptureAgent } from "../../../src/capture/capture-agent.ts";
import type { LogEvent } from "../../../src/event/kinds.ts";
import { Program } from "../../support/apps/program.ts";
import { SqlSession } from "../../support/apps/sql-session.ts";
import { captureHere } from "../../support/capture-here.ts";
import { Deployment } from "../../support/deployment.ts";
import { createFilesTable } from "../../support/file-order.ts";
import { foldOf, pictureOf } from "../../support/tree-scene.ts";
import { waitFor } from "../../support/wait.ts";

const RESTLESS = fileURLToPath(new URL("../../support/apps/restless-file.py", import.meta.url));
/** Reading so much takes longer than `order.maxWait` here, wherever. */
const LARGE_BYTES = 96 * 1024 * 1024;

interface Scene {
  readonly agent: CaptureAgent;
  readonly root: string;
  /** Commits, and gives what came into the log until the commit is there. */
  readonly commit: () => Promise<readonly LogEvent[]>;
}

async function captured(agent: CaptureAgent, bytes: number): Promise<void> {
  await waitFor("everything is captured", () => {
    const [tree] = agent.status().files;
    return tree?.dirty === 0 && tree.bytes === bytes;
  });
}

/** A set whose commits wait for files 50 ms at most, with everything captured. */
async function withCommits(work: (scene: Scene) => Promise<void>): Promise<void> {
  await using deployment = new Deployment({ trees: ["app/uploads"], config: "order: { maxWait: 50ms }" });
  const root = deployment.pathOf("uploads");
  fs.mkdirSync(root);
  await createFilesTable(deployment.database);
  await using app = new SqlSession(deployment.database);
  const commit = async (): Promise<readonly LogEvent[]> => {
    const before = (await deployment.events()).length;
    await app.run("INSERT INTO files SELECT 'row ' || count(*), 1 FROM files");
    return waitFor("the commit", async () => {
      const come = (await deployment.events()).slice(before);
      const at = come.findIndex(({ body }) => body.kind === "sqlite.commit");
      return at !== -1 && come.slice(0, at + 1);
    });
  };
  await captureHere(deployment, async (agent) => {
    await agent.sync();
    await work({ agent, root, commit });
    const isChange = ({ body }: LogEvent): boolean => "path" in body || body.kind === "sqlite.commit";
    await waitFor("a consistent point", async () => {
      const events = await deployment.events();
      return events.slice(events.findLastIndex(isChange)).some(({ consistent }) => consistent);
    });
  });
  expect(foldOf(await deployment.events())).toEqual(pictureOf(root));
}

test("a file that is being written without end holds no commit up for ever, and no point is consistent meanwhile", async () => {
  await withCommits(async ({ agent, root, commit }) => {
    {
      await using writer = new Program(["python3", RESTLESS, `${root}/upload`, "append", "3000000"]);
      await writer.line("it writes", (line) => line === "ready");
      for (let commits = 0; commits < 3; commits += 1)
        expect((await commit()).some(({ consistent }) => consistent)).toBe(false);
      await agent.sync();
      // It is said of which files the log may have older versions.
      expect(agent.status().files[0]?.restless).toBe(1);
    }
    await captured(agent, fs.statSync(`${root}/upload`).size);
  });
});

test("a commit does not wait longer than order.maxWait for a large file that is being read", async () => {
  await withCommits(async ({ agent, root, commit }) => {
    const pending = (): number => agent.status().files[0]?.pendingBytes ?? 0;
    let files = 0;
    // Another one where all of it had been read before the commit came.
    await waitFor("a commit while a file is being read", async () => {
      await captured(agent, files * LARGE_BYTES);
      files += 1;
      // One that changes while it is read would be a restless one, of which nobody waits.
      const beside = `${root}.large`;
      fs.writeFileSync(beside, "");
      fs.truncateSync(beside, LARGE_BYTES);
      fs.renameSync(beside, `${root}/large${files}`);
      await waitFor("it is being read", () => pending() > 0, { everyMs: 5 });
      const come = await commit();
      if (pending() === 0) return false;
      expect(come.filter(({ body, consistent }) => body.kind === "file.put" || consistent)).toEqual([]);
      const [warning] = agent.status().warnings;
      expect(warning).toMatch(/^a commit has passed files that changed before: order.maxWait \(50 ms\)/);
      return true;
    });
    // Whoever asks for everything before now waits for it.
    await agent.sync();
    expect(agent.status().files[0]).toMatchObject({ bytes: files * LARGE_BYTES, pendingBytes: 0 });
    await captured(agent, files * LARGE_BYTES);
    expect(agent.status().files[0]).toMatchObject({ restless: 0 });
    await waitFor("the warning is over", () => agent.status().warnings.length === 0);
  });
});

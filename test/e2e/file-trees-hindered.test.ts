import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

import { expect, test } from "vitest";

import { SqlSession } from "../support/apps/sql-session.ts";
import { Deployment } from "../support/deployment.ts";
import { createFilesTable } from "../support/file-order.ts";
import { differences } from "../support/random-tree.ts";
import { waitFor } from "../support/wait.ts";

// What must not be taken at its word, and what keeps the agents out.

const FILES = 40;

/** Entries of `files` in the configuration; `uploads` is one of them. */
async function sceneOf(...trees: string[]): Promise<{ deployment: Deployment; root: string; copy: string }> {
  const deployment = new Deployment({ trees });
  const root = deployment.pathOf("uploads");
  fill(root);
  await createFilesTable(deployment.database);
  return { deployment, root, copy: deployment.standbyOf("uploads") };
}

function fill(root: string): void {
  fs.mkdirSync(path.join(root, "sub"), { recursive: true });
  for (let number = 0; number < FILES; number += 1) fs.writeFileSync(path.join(root, "sub", `${number}`), `${number}`);
}

function shell(script: string, cwd: string): void {
  execFileSync("bash", ["-euc", script], { cwd, stdio: "pipe" });
}

/** Another file system at a directory, full of files, until the end of the test or `unmount`. */
class Volume implements Disposable {
  readonly #directory: string;

  constructor(directory: string) {
    this.#directory = directory;
    fs.mkdirSync(directory);
    this.mount();
  }

  mount(): void {
    execFileSync("mount", ["-t", "tmpfs", "tmpfs", this.#directory]);
    fill(this.#directory);
  }

  unmount(): void {
    execFileSync("umount", [this.#directory]);
  }

  [Symbol.dispose](): void {
    if (fs.readdirSync(this.#directory).length > 0) this.unmount();
  }
}

async function halted(deployment: Deployment, tree: string): Promise<string> {
  const look = async (): Promise<string | undefined | false> => {
    const { state, problem } = await deployment.treeState(tree);
    return state === "halted" && problem;
  };
  return waitFor(`the halt of ${tree}`, look, { timeoutMs: 15_000 });
}

/** A commit gets into the log, whatever is with the files or the standby. */
async function expectCommitsGoOn(deployment: Deployment): Promise<void> {
  const before = (await deployment.commits()).length;
  await using app = new SqlSession(deployment.database);
  await app.run("INSERT INTO files VALUES ('row', 1)");
  await deployment.sync({ applied: false });
  expect((await deployment.commits()).length).toBe(before + 1);
}

test("a volume that is unmounted, and too many deletions at once, halt their trees until all is back; --accept-empty takes it as it is", async () => {
  const { deployment, root, copy } = await sceneOf("app/volume", "{ path: app/uploads, maxDelete: 30% }");
  await using _deployment = deployment;
  using volume = new Volume(deployment.pathOf("volume"));
  const equal = async (): Promise<void> => {
    expect(await deployment.treeDifference("volume")).toBe("");
    expect(differences(root, copy)).toBe("");
  };
  const agent = await deployment.start("run");
  fs.rmSync(path.join(root, "sub/0"));
  await equal();
  volume.unmount();
  shell("mkdir ../aside && mv sub/1* sub/2* ../aside", root);
  expect(await halted(deployment, "volume")).toMatch(/^TREE_EMPTIED: .*volume is empty; the log holds 40 files of it/);
  expect(await halted(deployment, "uploads")).toMatch(/^MASS_DELETION: .* 22 of 39 files \(56 %\)/);
  expect((await deployment.sync({ applied: false })).without?.toSorted()).toEqual(["uploads", "volume"]);
  await expectCommitsGoOn(deployment);
  expect(fs.readdirSync(deployment.standbyOf("volume/sub"))).toHaveLength(FILES);
  expect(fs.readdirSync(path.join(copy, "sub"))).toHaveLength(FILES - 1);
  volume.mount();
  fs.writeFileSync(deployment.pathOf("volume/sub/0"), "changed meanwhile");
  shell("mv ../aside/* sub/", root);
  await waitFor("both go on", async () => {
    const { capture } = await deployment.status();
    return capture?.files.every(({ state }) => state === "following");
  });
  await equal();
  volume.unmount();
  fs.rmSync(path.join(root, "sub"), { recursive: true });
  expect((await agent.stop()).code).toBe(0);
  await deployment.start("run", "--accept-empty");
  await equal();
  expect(fs.readdirSync(deployment.standbyOf("volume"))).toEqual([]);
});

test("what the agent may not read is told, hinders nothing else, and is captured once it may", async () => {
  const { deployment, root, copy } = await sceneOf("app/uploads");
  await using _deployment = deployment;
  const problem = async (): Promise<string | undefined> => (await deployment.treeState("uploads")).problem;
  shell("mkdir closed listed; echo 2 >closed/in; echo 2 >listed/in; echo 1 >secret; chmod 000 secret", root);
  await deployment.launchWith({ unprivileged: true }, "run").waitReady();
  expect(await deployment.treeDifference("uploads", ["/secret"])).toBe("");
  expect(await problem()).toMatch(/^secret: cannot be read \(EACCES\)/);
  shell("chmod 000 closed; chmod 444 listed; echo 3 >later", root);
  expect(await deployment.treeDifference("uploads", ["/secret"])).toBe("");
  expect(await problem()).toMatch(/^secret: .*, and 2 more$/);
  // What was readable once is not taken for gone.
  for (const name of ["closed/in", "listed/in"]) expect(fs.readFileSync(path.join(copy, name), "utf8")).toBe("2\n");
  await expectCommitsGoOn(deployment);
  shell("chmod 640 secret; chmod 755 closed listed; echo 4 >>closed/in", root);
  expect(await deployment.treeDifference("uploads")).toBe("");
  expect(await problem()).toBeUndefined();
});

test("a symbolic link in a directory's place on the standby leads nothing out of it, halts it, and never the capture", async () => {
  const { deployment, root, copy } = await sceneOf("app/uploads");
  await using _deployment = deployment;
  const agent = await deployment.start("run");
  expect(await deployment.treeDifference("uploads")).toBe("");
  const outside = path.join(deployment.directory, "outside");
  shell(`cp -a sub ${outside}; rm -r sub; ln -s ${outside} sub`, copy);
  shell("echo more >>sub/1; echo new >sub/new; rm sub/2", root);
  const alerts = await waitFor("the halt", async () => {
    const { standby, alerts: told } = await deployment.status();
    return standby?.state === "halted" && told;
  });
  const message: unknown = expect.stringContaining("uploads/sub is a symbolic link, which might lead out");
  expect(alerts).toContainEqual({ severity: "critical", message });
  await expectCommitsGoOn(deployment);
  expect(fs.readdirSync(outside)).toHaveLength(FILES);
  expect(fs.readFileSync(path.join(outside, "1"), "utf8")).toBe("1");
  const ended = await agent.stop();
  expect([ended.code, ended.stderr]).toEqual([4, expect.stringContaining('"code":"PATH_UNSAFE"')]);
  // As the hint says.
  fs.unlinkSync(path.join(copy, "sub"));
  await deployment.start("run");
  await waitFor("the standby is put right", async () => (await deployment.treeDifference("uploads")) === "");
});

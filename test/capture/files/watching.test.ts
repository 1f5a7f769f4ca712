import { execFileSync } from "node:child_process";
import fs from "node:fs";

import { afterAll, beforeAll, expect, test } from "vitest";

import { askAgent } from "../../../src/observe/control-client.ts";
import { Deployment } from "../../support/deployment.ts";
import { createFilesTable } from "../../support/file-order.ts";
import { differences } from "../../support/random-tree.ts";

// What is announced suffices: no scan is due before all of this is over.

let deployment: Deployment;
let root: string;
beforeAll(async () => {
  deployment = new Deployment({ config: "files: [{ path: app/uploads, maxDelete: 100% }]" });
  root = deployment.pathOf("uploads");
  fs.mkdirSync(root);
  await createFilesTable(deployment.database);
  await deployment.start("run");
});
afterAll(async () => {
  await deployment[Symbol.asyncDispose]();
});

/** Waits until the standby has it, then compares. */
async function isSame(): Promise<void> {
  await askAgent(deployment.state, { method: "POST", path: "/sync", body: { applied: true }, timeoutMs: 30_000 });
  expect(differences(root, deployment.standbyOf("uploads"))).toBe("");
}

/** By a shell: many operations, as fast as they go. */
function shell(script: string): void {
  execFileSync("sh", ["-ec", script], { cwd: root, stdio: ["ignore", "ignore", "inherit"] });
}

test("directories that are made with what is in them, moved in, moved about and replaced", async () => {
  shell("mkdir -p a/b/c && echo 1 > a/b/c/file");
  await isSame();
  shell(
    "mkdir -p ../elsewhere/x/y && echo 2 > ../elsewhere/x/y/file && mv ../elsewhere moved-in && echo 3 > moved-in/x/later",
  );
  await isSame();
  shell("mv a old && mkdir -p a/b && echo 4 > a/b/file && echo 5 > old/b/c/file");
  await isSame();
  shell("rm -r a && mkdir -p a/b && echo 6 > a/b/file");
  await isSame();
  shell("echo 7 > a/b/file; mv moved-in/x a/x; mv a/x ../gone; echo 8 > ../gone/y/file; echo 9 > a/b/c");
  await isSame();
  shell("rm -r a/b && echo 10 > a/b; rm a/b; mkdir a/b; echo 11 > a/b/again");
  await isSame();
});

test("directories with names that are no text", async () => {
  const name = Buffer.concat([Buffer.from(`${root}/`), Buffer.from([0xff, 0xfe, 0x41])]);
  fs.mkdirSync(name);
  await isSame();
  fs.writeFileSync(Buffer.concat([name, Buffer.from("/later")]), "12");
  await isSame();
  fs.appendFileSync(Buffer.concat([name, Buffer.from("/later")]), "13");
  await isSame();
});

test("loops of git checkout", async () => {
  shell(`
    git init -q work && cd work && git config user.email a@b.c && git config user.name a
    for i in 1 2 3 4 5 6 7 8 9; do mkdir -p d$i/e && echo $i > d$i/e/f && echo $i > g$i; done
    git add . && git commit -qm one && git checkout -qb other
    for i in 1 2 3 4 5; do git rm -q -r d$i && mkdir -p n$i/e && echo n > n$i/e/f && git add n$i; done
    for i in 6 7 8 9; do echo other > d$i/e/f; done
    git commit -qam two
    for i in 1 2 3 4 5 6; do git checkout -q - ; done
  `);
  await isSame();
});

test("none of this needed a scan", async () => {
  expect((await deployment.status()).capture?.files).toMatchObject([
    { name: "uploads", state: "following", rescans: 0, dirty: 0 },
  ]);
});

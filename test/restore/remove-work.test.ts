import { spawn, spawnSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { afterEach, beforeEach, expect, test } from "vitest";

import { removeWork } from "../../src/restore/remove-work.ts";
import { waitFor } from "../support/wait.ts";

const MODULE = fileURLToPath(new URL("../../src/restore/remove-work.ts", import.meta.url));
const NOBODY = 65_534;

let directory: string;
beforeEach(() => {
  directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-remove-"));
});
afterEach(() => {
  spawnSync("chmod", ["-R", "u+rwX", directory]);
  fs.rmSync(directory, { recursive: true, force: true });
});

/** Root may remove anything, so another user does it here when the tests run as root. */
const asUser = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};

test("directories that their owner may not write, with names that are no text, are removed", () => {
  const work = path.join(directory, "work");
  const odd = Buffer.concat([Buffer.from(`${work}/locked/`), Buffer.from([0x62, 0xff, 0xfe])]);
  fs.mkdirSync(path.join(work, "locked"), { recursive: true });
  fs.mkdirSync(odd);
  fs.writeFileSync(Buffer.concat([odd, Buffer.from("/file")]), "x");
  fs.symlinkSync("/", path.join(work, "locked", "link"));
  fs.chmodSync(odd, 0o000);
  fs.chmodSync(path.join(work, "locked"), 0o555);
  if (asUser.uid !== undefined) spawnSync("chown", ["-R", `${NOBODY}:${NOBODY}`, directory]);
  const script = `(await import(${JSON.stringify(MODULE)})).removeWork(${JSON.stringify(work)})`;
  const run = spawnSync(process.execPath, ["--input-type=module", "-e", script], { ...asUser, encoding: "utf8" });
  expect(run.stderr).toBe("");
  expect(fs.existsSync(work)).toBe(false);
  expect(fs.existsSync("/tmp")).toBe(true);
});

/** Files come and go in a directory, until it is gone. */
const BUSY = `
import os, sys
open(sys.argv[1] + "/begun", "w").close()
while True:
    for number in range(40):
        try:
            open(f"{sys.argv[1]}/{number}", "w").close()
        except FileNotFoundError:
            sys.exit()
    for number in range(40):
        try:
            os.unlink(f"{sys.argv[1]}/{number}")
        except FileNotFoundError:
            pass
`;

test("all of it is removed beside a program that makes and removes files in there", async () => {
  const work = path.join(directory, "work");
  for (let round = 0; round < 8; round += 1) {
    const busy = path.join(work, "new");
    fs.mkdirSync(busy, { recursive: true });
    const other = spawn("python3", ["-c", BUSY, busy], { stdio: "ignore" });
    try {
      await waitFor("files in there", () => fs.existsSync(path.join(busy, "begun")));
      removeWork(work);
      expect(fs.existsSync(work)).toBe(false);
    } finally {
      other.kill("SIGKILL");
    }
  }
});

import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { expect, test } from "vitest";

import { runTidemark } from "../support/tidemark-cli.ts";

/** Runs a command with this home, and tells what is in its cache afterwards. */
async function cachedIn(home: string): Promise<readonly string[]> {
  const env = { HOME: home, XDG_CACHE_HOME: undefined, NODE_COMPILE_CACHE: undefined };
  expect(await runTidemark(["--version"], { env })).toMatchObject({ code: 0, stderr: "" });
  const cache = path.join(home, ".cache", "tidemark");
  if (!fs.existsSync(cache)) return [];
  expect(fs.statSync(cache).mode & 0o077).toBe(0);
  return fs.readdirSync(cache);
}

test("compiled code is kept in the user's own home, not in another's, and a home that takes nothing is no obstacle", async () => {
  const home = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-home-"));
  try {
    expect(await cachedIn(home)).toEqual(["node"]);
    fs.rmSync(path.join(home, ".cache"), { recursive: true });
    fs.writeFileSync(path.join(home, ".cache"), "");
    expect(await cachedIn(home)).toEqual([]);
    fs.rmSync(path.join(home, ".cache"));
    // Only root can give it away; to whoever else is root's is another's.
    if (process.getuid?.() === 0) fs.chownSync(home, 65_534, 65_534);
    expect(await cachedIn(process.getuid?.() === 0 ? home : "/root")).toEqual([]);
  } finally {
    fs.rmSync(home, { recursive: true });
  }
});

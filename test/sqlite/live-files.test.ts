import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { expect, test } from "vitest";

import { LiveFiles } from "../../src/sqlite/live-files.ts";

test("files that cannot all be opened are not held: the next try must not find fewer descriptors left", () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-live-"));
  const file = path.join(directory, "app.db");
  fs.writeFileSync(file, "");
  fs.writeFileSync(`${file}-wal`, "");
  try {
    expect(() => new LiveFiles(file, "r")).toThrow("ENOENT");
    const open = fs.readdirSync("/proc/self/fd").map((fd) => linkOf(`/proc/self/fd/${fd}`));
    expect(open.filter((target) => target.startsWith(directory))).toEqual([]);
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
});

function linkOf(link: string): string {
  try {
    return fs.readlinkSync(link);
  } catch {
    return "";
  }
}

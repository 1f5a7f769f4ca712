import { execFileSync } from "node:child_process";
import fs from "node:fs";

import { expect, test } from "vitest";

import { CliScene } from "../support/cli-scene.ts";

test("a dry run lists what would be captured, and what not and why, and makes nothing", async () => {
  await using scene = new CliScene();
  scene.database("up/app.db");
  scene.write("up/a.txt", "12345");
  scene.write("up/x.part", "");
  scene.write("up/d/e", "");
  execFileSync("mkfifo", [scene.path("up/pipe")]);
  fs.symlinkSync("a.txt", scene.path("up/link"));
  scene.write(
    "tidemark.yml",
    'databases: [up/app.db]\nfiles: [{ path: up, exclude: ["*.part", "/d/"] }]\nstandby: standby\nstate: state\n',
  );
  const before = fs.readdirSync(scene.directory);
  const { code, stdout } = await scene.run(["run", "--dry-run"]);
  expect(code).toBe(0);
  expect(stdout.replaceAll(scene.directory, "DIR")).toBe(
    [
      "database app.db (DIR/up/app.db)",
      "files up (DIR/up)",
      "  + .",
      "  + a.txt 5 B",
      "  - app.db: is a database of the set",
      '  - d/: excluded by "/d/"',
      "  + link",
      "  - pipe: is a FIFO, a socket or a device",
      '  - x.part: excluded by "*.part"',
      "  2 files, 5 B; left out: 4",
      "",
    ].join("\n"),
  );
  const json = await scene.run(["capture", "--dry-run", "--log", "embedded:log", "--json"]);
  const lines = json.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(lines).toContainEqual({ tree: "up", path: "a.txt", kind: "file", bytes: 5, captured: true });
  expect(lines).toContainEqual({
    tree: "up",
    path: "x.part",
    kind: "file",
    bytes: 0,
    captured: false,
    reason: 'excluded by "*.part"',
  });
  expect(lines.at(-1)).toEqual({ tree: "up", files: 2, bytes: 5, leftOut: 4 });
  expect(fs.readdirSync(scene.directory)).toEqual(before);
});

import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { afterEach, beforeEach, expect, test } from "vitest";

import { readConfigFile } from "../../src/config/config-file.ts";
import { type Flags, loadConfig } from "../../src/config/load-config.ts";
import { TidemarkError } from "../../src/runtime/errors.ts";

let directory = "";
beforeEach(() => {
  directory = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-trees-")));
});
afterEach(() => fs.rmSync(directory, { recursive: true }));

const at = (...names: string[]): string => path.join(directory, ...names);

function load(flags: Flags, text?: string): ReturnType<typeof loadConfig> {
  const config = at("tidemark.yml");
  if (text !== undefined) fs.writeFileSync(config, text);
  const file = text === undefined ? undefined : readConfigFile(config, {});
  return loadConfig({ role: "run", flags: { standby: "standby", ...flags }, environment: {}, directory, file });
}

function refusal(flags: Flags, text?: string): string {
  try {
    load(flags, text);
  } catch (error) {
    if (error instanceof TidemarkError && error.code === "CONFIG") return `${error.message} ${error.hint}`;
    throw error;
  }
  throw new Error("was not refused");
}

test("trees of the file, with their patterns and limits", () => {
  const { trees, capture, set } = load(
    {},
    [
      "files:",
      '  - { path: uploads, exclude: ["*.part"], include: [keep.part], maxDelete: 12.5% }',
      "  - { path: etc/.env, name: env }",
      "  - /srv/media",
      "rescan: 1m",
      "order: { maxWait: 2s }",
    ].join("\n"),
  );
  expect(trees).toEqual([
    { path: at("uploads"), name: "uploads", exclude: ["*.part"], include: ["keep.part"], maxDeleteShare: 0.125 },
    { path: at("etc/.env"), name: "env", exclude: [], include: [], maxDeleteShare: 0.5 },
    { path: "/srv/media", name: "media", exclude: [], include: [], maxDeleteShare: 0.5 },
  ]);
  expect(capture).toMatchObject({ rescanMs: 60_000, orderMaxWaitMs: 2000 });
  expect(set).toBe("uploads");
});

test("flags, beside a database or alone", () => {
  expect(load({ files: ["data/up", "x=media"] }).trees.map(({ path: root, name }) => [root, name])).toEqual([
    [at("data/up"), "up"],
    [at("x"), "media"],
  ]);
  expect(load({ db: ["app.db"], files: ["up"] })).toMatchObject({ set: "app", capture: { rescanMs: 600_000 } });
  fs.mkdirSync(at("a=b"));
  expect(load({ files: ["a=b"] }).trees).toMatchObject([{ name: "a=b" }]);
});

test.for<[string, Flags, string]>([
  ["no path", { files: ["=x"] }, "--files PATH"],
  ["a name that leads out", { files: ["up=../x"] }, "cannot name a file tree"],
  ["one name twice", { files: ["a/up", "b/up"] }, "=NAME"],
  ["the name of a database", { db: ["app.db"], files: ["app.db=app.db"] }, "both lie at"],
  ["a name under another", { db: ["app.db=up/app.db"], files: ["up"] }, "both lie at"],
  ["a tree in a tree", { files: ["up", "up/inner=x"] }, "are the same files"],
  ["a database as a tree", { db: ["app.db"], files: ["app.db=x"] }, "is a database of the set"],
  ["the standby", { files: ["standby/up"] }, "keeps its own files"],
  ["the state", { files: ["state"], state: "state" }, "keeps its own files"],
  ["the log", { files: ["log/x"], log: "embedded:log" }, "keeps its own files"],
  ["the place of the standby's copy", { files: ["up"], standby: "." }, "keeps its own files"],
])("refused: %s", ([, flags, message]) => {
  expect(refusal(flags)).toContain(message);
});

test.for([
  ["files: [{ path: up, maxDelete: 50 }]", "files[0]"],
  ["files: [{ path: up, maxDelete: 500% }]", "is no share"],
  ["files: [{ path: up, excludes: [a] }]", "exclude"],
])("refused in the file: %s", ([text = "", message]) => {
  expect(refusal({}, text)).toContain(message);
});

test("without a database and without a tree there is nothing to do", () => {
  expect(refusal({})).toContain("needs a database or a file tree");
});

test("what a pattern finds leaves the trees their names and paths", () => {
  fs.mkdirSync(at("db"));
  for (const name of ["a.db", "up", "config"]) fs.writeFileSync(at("db", name), "x");
  const flags = { db: ["db/*"], files: ["data/up", "db/config=settings"] };
  const { databases, trees } = load(flags);
  expect(databases.map(({ name }) => name)).toEqual(["a.db"]);
  expect(trees.map(({ name }) => name)).toEqual(["up", "settings"]);
});

test("links are looked through: the same place under two names is the same", () => {
  fs.mkdirSync(at("real"));
  fs.symlinkSync("real", at("alias"));
  expect(refusal({ files: ["real", "alias"] })).toContain("are the same files");
});

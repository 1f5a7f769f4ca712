import { hash } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { afterAll, beforeAll, expect, test, vi } from "vitest";

import { encodeChunks } from "../../src/event/chunk-list.ts";
import type { EventBody } from "../../src/event/kinds.ts";
import { byteString, type TreePath } from "../../src/event/tree-path.ts";
import { PageDiffLog } from "../support/page-diff-log.ts";
import { runTidemark } from "../support/tidemark-cli.ts";

// Every step is a process of its own; many at once are slow on a busy machine.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-log-"));
afterAll(() => fs.rmSync(directory, { recursive: true, force: true }));

const CONTENT = Buffer.from("content");
const ID = hash("sha256", CONTENT, "buffer");
const metadata = { mode: 0o644, uid: 1, gid: 2, mtimeNs: 3n };
const file = { tree: "uploads", put: 1, parts: 0, size: 7, hash: ID, ...metadata };
const chunks = encodeChunks([{ id: byteString(ID), size: 7 }]);
const at = (bytes: string): TreePath => byteString(Buffer.from(bytes)) as TreePath;

/** In the order in which they are in the log, from offset 3 on, with the name that is shown. */
const EVENTS: readonly [EventBody, string][] = [
  [{ kind: "dir.put", tree: "uploads", path: at(""), ...metadata }, "uploads"],
  [{ kind: "dir.put", tree: "uploads", path: at("größe"), ...metadata }, "uploads/größe"],
  [{ kind: "file.chunk", id: ID, data: CONTENT }, "ed7002b439e9ac84"],
  [{ kind: "file.part", tree: "uploads", put: 1, sequence: 0, chunks }, "uploads"],
  [{ kind: "file.put", ...file, path: at("größe/a.pdf"), chunks }, "uploads/größe/a.pdf"],
  [
    { kind: "file.put", ...file, path: at("a\u001b[2J\nb\u202e"), chunks, data: CONTENT },
    String.raw`uploads/a\x1b[2J\x0ab\xe2\x80\xae`,
  ],
  [
    { kind: "link.put", tree: "uploads", path: "caf\xe9" as TreePath, target: "x", uid: 1, gid: 2, mtimeNs: 3n },
    "uploads/caf\\xe9",
  ],
  [{ kind: "file.remove", tree: "uploads", path: at("größe/a.pdf") }, "uploads/größe/a.pdf"],
  [{ kind: "dir.remove", tree: "uploads", path: at("größe") }, "uploads/größe"],
];

beforeAll(async () => {
  await using log = await PageDiffLog.open(directory);
  const { acknowledged } = log.writer.append(
    EVENTS.map(([body]) => body),
    { consistent: true },
  );
  await acknowledged;
});

const list = async (...more: readonly string[]): Promise<string[]> => {
  const args = ["log", "--set", "app", "--log", `embedded:${directory}`, "--from", "3", ...more];
  const { stdout } = await runTidemark(args, { cwd: directory });
  return stdout.trimEnd().split("\n");
};

test("events of trees for people: a line each, with nothing that a terminal would obey", async () => {
  const lines = await list();
  expect(lines.map((line) => line.split("  ").at(-1)?.trim())).toEqual(EVENTS.map(([, name]) => name));
  expect(lines.map((line) => line.split(/ +/)[3])).toEqual(EVENTS.map(([body]) => body.kind));
  expect(lines.join("")).not.toMatch(/[\p{Cc}\p{Bidi_Control}]/u);
});

test("events of trees for scripts: the fields of every event, and whether the point is consistent", async () => {
  const events = (await list("--json")).map((line) => JSON.parse(line) as Record<string, unknown>);
  const expected = EVENTS.map(([{ kind }, name], index) => ({
    offset: index + 3,
    at: expect.stringMatching(/^\d{4}-.*Z$/) as unknown,
    kind,
    name,
    epoch: 1,
    bytes: expect.any(Number) as unknown,
    ...(index === EVENTS.length - 1 ? { consistent: true } : {}),
  }));
  expect(events).toEqual(expected);
});

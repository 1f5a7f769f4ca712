import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

import Database from "better-sqlite3";
import { afterEach, beforeEach, expect, test } from "vitest";

import { encodeChunks } from "../../src/event/chunk-list.ts";
import type { DirectoryPut, EventBody, FileChunk, FilePut, LinkPut } from "../../src/event/kinds.ts";
import { byteString, type TreePath } from "../../src/event/tree-path.ts";
import { TreeBench } from "./support/tree-bench.ts";

let bench: TreeBench;
beforeEach(async () => {
  bench = await TreeBench.open();
});
afterEach(async () => {
  expect(bench.leftInTargets()).toEqual([]);
  await bench[Symbol.asyncDispose]();
});

const METADATA = { mode: 0o755, uid: 0, gid: 0, mtimeNs: 1_000_000_000n };
const ROOT: DirectoryPut = { kind: "dir.put", tree: "uploads", path: "" as TreePath, ...METADATA };
const sha256 = (data: Uint8Array): Uint8Array => createHash("sha256").update(data).digest();

function put(at: string, data: Uint8Array, more: Partial<FilePut> = {}): FilePut {
  const hash = sha256(data);
  const chunks = encodeChunks([{ id: byteString(hash), size: data.length }]);
  const size = data.length;
  return {
    kind: "file.put",
    tree: "uploads",
    path: at as TreePath,
    put: 1,
    parts: 0,
    size,
    hash,
    chunks,
    ...METADATA,
    ...more,
  };
}

const link = (at: string, target: string): LinkPut => {
  return { kind: "link.put", tree: "uploads", path: at as TreePath, target, uid: 0, gid: 0, mtimeNs: 0n };
};
const CONTENT = Buffer.from("content");
const chunk = (data: Uint8Array, id = sha256(data)): FileChunk => ({ kind: "file.chunk", id, data });

const HOSTILE: [string, string, RegExp, EventBody[]][] = [
  [
    "a file behind a symbolic link",
    "RECORD_INVALID",
    /uploads\/out\/passwd is in no directory/,
    [ROOT, link("out", "/etc"), put("out/passwd", CONTENT, { data: CONTENT })],
  ],
  ["a tree that leaves the target", "PATH_UNSAFE", /"\.\.\/evil"/, [{ ...ROOT, tree: "../evil" }]],
  ["a tree in Tidemark's own place", "PATH_UNSAFE", /\.tidemark/, [{ ...ROOT, tree: ".tidemark/x" }]],
  [
    "a chunk that is not what it is named",
    "RECORD_INVALID",
    /offset 4: its content does not have the hash/,
    [ROOT, chunk(Buffer.from("another"), sha256(CONTENT)), put("a", CONTENT)],
  ],
  ["content that is nowhere", "RECORD_INVALID", /offset 4: uploads\/a needs content/, [ROOT, put("a", CONTENT)]],
  [
    "a file that is not the sum of its chunks",
    "CHECKSUM_MISMATCH",
    /uploads\/a of offset 5: SHA-256/,
    [ROOT, chunk(CONTENT), { ...put("a", CONTENT), hash: sha256(Buffer.from("x")) }],
  ],
];

test.each(HOSTILE)("%s: nothing is handed over", async (_what, code, message, bodies) => {
  await bench.append(...bodies);
  await expect(bench.restore()).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
});

test("a damaged chunk is named by its offset; what does not need it can be restored", async () => {
  await bench.change("head -c 1200000 /dev/urandom > large; echo small > small");
  const store = new Database(path.join(bench.scene.directory, "log", "log.db"), { timeout: 5000 });
  const { at } = store.prepare("SELECT offset AS at FROM record WHERE length(data) > 65536 LIMIT 1").get() as {
    at: number;
  };
  const data =
    store.prepare<[number], Buffer>("SELECT data FROM record WHERE offset = ?").pluck().get(at) ?? Buffer.alloc(1);
  data[50_000] = (data[50_000] ?? 0) ^ 1;
  store.prepare("UPDATE record SET data = ? WHERE offset = ?").run(data, at);
  store.close();
  await expect(bench.restore()).rejects.toMatchObject({ message: expect.stringContaining(`offset ${at}`) });
  expect(await bench.restore({ to: at - 1, directory: path.join(bench.scene.directory, "before") })).toMatchObject({
    ok: true,
  });
});

test("of a tree whose first records were trimmed nothing is brought back", async () => {
  const first = await bench.change("echo a > a");
  await bench.change("echo b > b");
  await bench.scene.log.trim(first);
  await expect(bench.restore()).rejects.toMatchObject({
    code: "OFFSET_NOT_FOUND",
    message: expect.stringContaining("uploads"),
    hint: expect.stringContaining("--database"),
  });
  expect(fs.existsSync(path.join(bench.scene.directory, "targets"))).toBe(false);
});

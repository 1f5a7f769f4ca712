import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import Database from "better-sqlite3";
import { expect, test } from "vitest";

import { FILE_INDEX, FileIndex } from "../../../src/capture/files/file-index.ts";
import { encodeChunks } from "../../../src/event/chunk-list.ts";
import type { EventBody } from "../../../src/event/kinds.ts";
import { offset } from "../../../src/event/positions.ts";
import { byteString, type TreePath } from "../../../src/event/tree-path.ts";
import { openEmbeddedLog } from "../../../src/log/embedded-log.ts";
import { TreeIndex } from "../../../src/tree/tree-index.ts";
import { allEvents, openWriter } from "../../support/log-scene.ts";

const owned = { mode: 0o640, uid: 3, gid: 4, mtimeNs: 1_795_275_229_676_253_795n };
const at = (name: string): { tree: string; path: TreePath } => ({ tree: "uploads", path: name as TreePath });
const id = Buffer.alloc(32, 7);
const small = Buffer.alloc(32, 8);

const BODIES: readonly EventBody[] = [
  { kind: "dir.put", ...at(""), ...owned },
  { kind: "dir.put", ...at("a"), ...owned, xattrs: new Map([["user.note", Buffer.from("x")]]) },
  { kind: "file.chunk", id, data: Buffer.alloc(1000, 1) },
  {
    kind: "file.put",
    ...at("a/large"),
    put: 1,
    parts: 0,
    size: 1000,
    hash: Buffer.alloc(32, 1),
    chunks: encodeChunks([{ id: byteString(id), size: 1000 }]),
    group: 5,
    ...owned,
  },
  {
    kind: "file.put",
    ...at("small"),
    put: 2,
    parts: 0,
    size: 3,
    hash: Buffer.alloc(32, 2),
    chunks: encodeChunks([{ id: byteString(small), size: 3 }]),
    data: Buffer.from("abc"),
    ...owned,
  },
  { kind: "link.put", ...at("a/link"), target: byteString(Buffer.from("large")), uid: 1, gid: 2, mtimeNs: 9n },
  { kind: "link.put", ...at("gone"), target: byteString(Buffer.from("x")), uid: 1, gid: 2, mtimeNs: 9n },
  { kind: "file.remove", ...at("gone") },
];

function contentOf(directory: string): unknown[] {
  const db = new Database(path.join(directory, FILE_INDEX), { readonly: true });
  const rows = ["entry", "tree", "content"].map((table) => db.prepare(`SELECT * FROM ${table}`).raw().all());
  db.close();
  return rows;
}

test("what a promoted standby's capture begins with is what it would have read out of the log", async () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-seeded-"));
  try {
    await using log = await openEmbeddedLog({ directory: path.join(directory, "log"), set: "app", mode: "write" });
    const writer = await openWriter(log);
    const head = await writer.append(BODIES).acknowledged;
    const { logId } = writer;
    const other = new Database(":memory:");
    const trees = new TreeIndex(other);
    for (const event of await allEvents(log)) trees.apply(event);
    const [read, seeded] = [path.join(directory, "read"), path.join(directory, "seeded")];
    {
      using index = new FileIndex(read);
      await index.recover({ log, logId, head, signal: new AbortController().signal });
      using second = new FileIndex(seeded);
      second.seed(trees, { logId, at: head });
      // One that knows as much stays as it is, whatever another says.
      trees.apply({ offset: offset(head + 1), body: { kind: "file.remove", ...at("small") } });
      second.seed(trees, { logId, at: head });
    }
    expect(contentOf(seeded)).toEqual(contentOf(read));
    expect((contentOf(seeded)[0] as unknown[]).length).toBe(5);
    other.close();
  } finally {
    fs.rmSync(directory, { recursive: true, force: true });
  }
});

import Database from "better-sqlite3";
import { expect, test } from "vitest";

import { encodeChunks } from "../../src/event/chunk-list.ts";
import type { FilePut, LogEvent } from "../../src/event/kinds.ts";
import { offset } from "../../src/event/positions.ts";
import { byteString, type TreePath } from "../../src/event/tree-path.ts";
import { hasCode } from "../../src/runtime/errors.ts";
import { chunksOfEntry, TreeIndex } from "../../src/tree/tree-index.ts";

const METADATA = { mode: 0o644, uid: 1, gid: 2, mtimeNs: -1_767_225_600_123_456_789n };
const hashOf = (byte: number): Uint8Array => Buffer.alloc(32, byte);

function file(path: string, fields: Partial<FilePut> = {}): FilePut {
  const hash = hashOf(path.length);
  const chunks = encodeChunks([{ id: byteString(hash), size: 5 }]);
  return {
    kind: "file.put",
    tree: "up",
    path: path as TreePath,
    put: 1,
    parts: 0,
    size: 5,
    hash,
    chunks,
    ...METADATA,
    ...fields,
  };
}

const directory = (path: string): LogEvent["body"] => ({
  kind: "dir.put",
  tree: "up",
  path: path as TreePath,
  ...METADATA,
});

class Scene {
  readonly index = new TreeIndex(new Database(":memory:"));
  #at = 0;

  apply(...bodies: readonly LogEvent["body"][]): this {
    for (const body of bodies) this.index.apply({ offset: offset((this.#at += 1)), body });
    return this;
  }

  get paths(): string[] {
    return [...this.index.entries("up")].map(({ path, kind }) => `${kind} ${path}`);
  }
}

test("an entry comes back as its event said it, times before 1970 and attributes included", () => {
  const xattrs = new Map([
    ["user.a", Buffer.from([0, 255])],
    ["user.empty", Buffer.alloc(0)],
  ]);
  const { index } = new Scene().apply(directory(""), file("f", { xattrs, group: 9, data: Buffer.from("hello") }));
  const entry = index.entry("up", "f" as TreePath);
  expect(entry).toMatchObject({ kind: "file", offset: 2, size: 5, group: 9, metadata: { ...METADATA, xattrs } });
  expect(entry?.kind === "file" && [...chunksOfEntry(entry)]).toEqual([{ id: byteString(hashOf(1)), size: 5 }]);
  expect(index.contentOffset(byteString(hashOf(1)))).toBe(2);
  expect(index.totals("up")).toEqual({ files: 1, bytes: 5 });
});

test("a directory comes before what is in it, and takes it along when it goes", () => {
  const scene = new Scene().apply(directory(""), directory("a"), file("a/b"), file("a.b"), file("a0"), directory("ab"));
  expect(scene.paths).toEqual(["dir ", "dir a", "file a.b", "file a/b", "file a0", "dir ab"]);
  scene.apply({ kind: "dir.remove", tree: "up", path: "a" as TreePath });
  expect(scene.paths).toEqual(["dir ", "file a.b", "file a0", "dir ab"]);
  scene.apply({ kind: "dir.remove", tree: "up", path: "" as TreePath });
  expect(scene.index.names()).toEqual([]);
});

test("a file in the place of a directory takes what was in it away; a directory put again leaves it", () => {
  const scene = new Scene().apply(directory(""), directory("a"), file("a/b"), directory("a"));
  expect(scene.paths).toEqual(["dir ", "dir a", "file a/b"]);
  expect(scene.apply(file("a")).paths).toEqual(["dir ", "file a"]);
});

test("parts come before the chunks of their put; without them it is refused", () => {
  const part = (sequence: number): LogEvent["body"] => ({
    kind: "file.part",
    tree: "up",
    put: 7,
    sequence,
    chunks: encodeChunks([{ id: byteString(hashOf(100 + sequence)), size: 10 + sequence }]),
  });
  const put = file("big", { put: 7, parts: 2, size: 26 });
  const { index } = new Scene().apply(directory(""), part(0), part(1), put);
  const entry = index.entry("up", "big" as TreePath);
  expect(entry?.kind === "file" && [...chunksOfEntry(entry)].map(({ size }) => size)).toEqual([10, 11, 5]);
  const refused = (body: FilePut): boolean => {
    try {
      new Scene().apply(directory(""), part(0), body);
      return false;
    } catch (error) {
      return hasCode(error, "RECORD_INVALID");
    }
  };
  expect([refused(put), refused({ ...put, parts: 1 }), refused({ ...put, parts: 1, size: 15 })]).toEqual([
    true,
    true,
    false,
  ]);
});

test("thousands of entries are walked, while they change", () => {
  const scene = new Scene().apply(directory(""));
  const names = Array.from({ length: 2500 }, (_, i) => `f${String(i).padStart(4, "0")}`);
  scene.apply(...names.map((name) => file(name)));
  const seen: string[] = [];
  for (const { path } of scene.index.entries("up")) {
    seen.push(path);
    if (path !== "") scene.apply({ kind: "file.remove", tree: "up", path });
  }
  expect(seen).toEqual(["", ...names]);
  expect(scene.paths).toEqual(["dir "]);
});

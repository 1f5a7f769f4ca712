import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { afterAll, expect, test } from "vitest";

import { applyMetadata, metadataOf, readXattrs, fileTime } from "../../src/tree/metadata.ts";

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-metadata-"));
afterAll(() => fs.rmSync(directory, { recursive: true, force: true }));

const NEW = { mode: 0o4751, uid: 12, gid: 34, mtimeNs: 1_767_225_600_123_456_789n };

test("owner, setuid, attributes, ACL and time of a file come out as they are given", () => {
  const file = path.join(directory, "file");
  const model = path.join(directory, "model");
  for (const one of [file, model]) fs.writeFileSync(one, "x");
  execFileSync("setfattr", ["-n", "user.note", "-v", "0x00ff10", model]);
  execFileSync("setfacl", ["-m", "u:7:r", model]);
  fs.chmodSync(model, 0o4751);
  // The group bits of a mode with an ACL are its mask.
  const { mode } = metadataOf(fs.statSync(model, { bigint: true }));
  const xattrs = readXattrs(model);
  expect([...(xattrs?.keys() ?? [])]).toEqual(["system.posix_acl_access", "user.note"]);
  execFileSync("setfattr", ["-n", "user.stale", "-v", "old", file]);
  applyMetadata(file, { ...NEW, mode, ...(xattrs ? { xattrs } : {}) });
  const { mtimeNs, ...found } = metadataOf(fs.statSync(file, { bigint: true }));
  expect(found).toEqual({ mode, uid: 12, gid: 34 });
  expect(Number(mtimeNs - NEW.mtimeNs)).toBeLessThan(250);
  expect(Number(mtimeNs - NEW.mtimeNs)).toBeGreaterThan(-250);
  expect(readXattrs(file)).toEqual(xattrs);
});

test("a symbolic link has no attributes, what it leads to has", () => {
  const target = path.join(directory, "target");
  fs.writeFileSync(target, "x");
  fs.symlinkSync("target", path.join(directory, "link"));
  execFileSync("setfattr", ["-n", "user.a", "-v", "1", target]);
  expect(readXattrs(path.join(directory, "link"))).toBeUndefined();
  expect(readXattrs(target)?.get("user.a")?.toString()).toBe("1");
});

test("a directory is reached through a descriptor", () => {
  const place = path.join(directory, "place");
  fs.mkdirSync(place);
  const fd = fs.openSync(place, "r");
  applyMetadata(`/proc/self/fd/${fd}/.`, { ...NEW, mode: 0o2750, xattrs: new Map([["user.d", Buffer.from("d")]]) });
  fs.closeSync(fd);
  expect(metadataOf(fs.statSync(place, { bigint: true }))).toMatchObject({ mode: 0o2750, uid: 12, gid: 34 });
  expect(readXattrs(place)?.get("user.d")?.toString()).toBe("d");
});

test.for([0n, -1n, -1_500_000_000n, 1_767_225_600_999_999_999n, 4_102_444_800_000_000_001n])("time of %s ns", (ns) => {
  const file = path.join(directory, "time");
  fs.writeFileSync(file, "x");
  fs.utimesSync(file, fileTime(ns), fileTime(ns));
  const off = Number(fs.statSync(file, { bigint: true }).mtimeNs - ns);
  expect(Math.abs(off)).toBeLessThan(ns < 0n ? 1_000_001 : 500);
});

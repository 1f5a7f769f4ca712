import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { afterAll, expect, test } from "vitest";

import { applyMetadata, fileTime, metadataOf } from "../../src/tree/metadata.ts";
import { readXattrs } from "../../src/tree/xattrs.ts";
import { errnoOf } from "../../src/runtime/errors.ts";

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-metadata-"));
afterAll(() => fs.rmSync(directory, { recursive: true, force: true }));

const NEW = { mode: 0o4751, uid: 12, gid: 34, mtimeNs: 1_767_225_600_123_456_789n };
/** A file capability, as `setcap cap_chown=ep` writes it. */
const CAPABILITY = Buffer.from("0100000201000000000000000000000000000000", "hex");

function newFile(name: string): string {
  const file = path.join(directory, name);
  fs.writeFileSync(file, "x");
  return file;
}

test("owner, setuid, attributes, capabilities, ACL and time of a file come out as they are given", () => {
  const file = newFile("file");
  const model = newFile("model");
  execFileSync("setfattr", ["-n", "user.note", "-v", "0x00ff10", model]);
  execFileSync("setfattr", ["-n", "user.empty", model]);
  execFileSync("setfattr", ["-n", "security.capability", "-v", `0x${CAPABILITY.toString("hex")}`, model]);
  execFileSync("setfacl", ["-m", "u:7:r", model]);
  fs.chmodSync(model, 0o4751);
  // The group bits of a mode with an ACL are its mask.
  const { mode } = metadataOf(fs.statSync(model, { bigint: true }));
  const xattrs = readXattrs(model) ?? new Map<string, Uint8Array>();
  expect([...xattrs.keys()]).toEqual(["security.capability", "system.posix_acl_access", "user.empty", "user.note"]);
  execFileSync("setfattr", ["-n", "user.stale", "-v", "old", file]);
  execFileSync("setfacl", ["-m", "u:8:rwx", file]);
  expect(applyMetadata(file, { ...NEW, mode, xattrs })).toEqual([]);
  const { mtimeNs, ...found } = metadataOf(fs.statSync(file, { bigint: true }));
  expect(found).toEqual({ mode, uid: 12, gid: 34 });
  expect(Math.abs(Number(mtimeNs - NEW.mtimeNs))).toBeLessThan(250);
  expect(readXattrs(file)).toEqual(xattrs);
  expect(applyMetadata(file, NEW)).toEqual([]);
  expect(readXattrs(file)).toBeUndefined();
});

test("a name of 255 bytes with a line break in it, and attributes of another namespace", () => {
  const file = newFile("names");
  const name = `user.a\nb${"é".repeat(123)}c`;
  const xattrs = new Map([[name, Buffer.from("1")]]);
  expect(applyMetadata(file, { ...NEW, xattrs })).toEqual([]);
  execFileSync("setfattr", ["-n", "security.of_this_host", "-v", "1", file]);
  expect(readXattrs(file)).toEqual(xattrs);
  applyMetadata(file, NEW);
  expect(execFileSync("getfattr", ["-d", "-m", "-", "--absolute-names", file], { encoding: "utf8" })).toContain(
    "security.of_this_host",
  );
});

test("an attribute whose name is not UTF-8 is an error that says so; a file that is gone has its errno", () => {
  const file = newFile("latin1");
  execFileSync("python3", ["-c", `import os; os.setxattr(${JSON.stringify(file)}, b"user.\\xff", b"1")`]);
  expect(errnoOf(thrownBy(() => readXattrs(file)))).toBe("EILSEQ");
  expect(errnoOf(thrownBy(() => readXattrs(`${file}.gone`)))).toBe("ENOENT");
});

function thrownBy(work: () => unknown): unknown {
  try {
    return work();
  } catch (error) {
    return error;
  }
}

test("what a file system cannot keep is named, and the rest applied", () => {
  const bare = path.join(directory, "bare");
  fs.mkdirSync(bare);
  execFileSync("mount", ["-t", "ramfs", "ramfs", bare]);
  try {
    const file = newFile("bare/file");
    expect(readXattrs(file)).toBeUndefined();
    const xattrs = new Map([["user.note", Buffer.from("1")]]);
    expect(applyMetadata(file, { ...NEW, xattrs })).toEqual(["user.note"]);
    expect(metadataOf(fs.statSync(file, { bigint: true }))).toMatchObject({ mode: 0o4751, uid: 12, gid: 34 });
  } finally {
    execFileSync("umount", [bare]);
  }
  const tooLarge = new Map([["user.large", Buffer.alloc(65_537)]]);
  expect(applyMetadata(newFile("large"), { ...NEW, xattrs: tooLarge })).toEqual(["user.large"]);
});

test("without root: attributes of what may not be written, and no program that runs as us in another's stead", () => {
  const place = path.join(directory, "user");
  fs.mkdirSync(place);
  const program = path.resolve(import.meta.dirname, "../support/apply-metadata.ts");
  const apply = (name: string, mode: string, uid: string): { said: unknown; mode: number; xattrs: unknown } => {
    const file = newFile(path.join("user", name));
    fs.chownSync(file, 65_534, 65_534);
    fs.chmodSync(file, 0o444);
    fs.chmodSync(directory, 0o755);
    const asNobody = ["--reuid=65534", "--regid=65534", "--clear-groups", process.execPath, program, file, mode, uid];
    const said: unknown = JSON.parse(execFileSync("setpriv", asNobody, { encoding: "utf8" }));
    const stat = fs.statSync(file, { bigint: true });
    expect(stat.uid).toBe(65_534n);
    return { said, mode: metadataOf(stat).mode, xattrs: readXattrs(file) };
  };
  const xattrs = new Map([["user.note", Buffer.from("n")]]);
  expect(apply("read-only", "0444", "65534")).toEqual({ said: [], mode: 0o444, xattrs });
  expect(apply("ours", "4755", "65534")).toEqual({ said: [], mode: 0o4755, xattrs });
  expect(apply("another's", "6755", "0")).toEqual({ said: [], mode: 0o755, xattrs });
});

test("a symbolic link is not followed", () => {
  const target = newFile("target");
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
  const file = newFile("time");
  fs.utimesSync(file, fileTime(ns), fileTime(ns));
  const off = Number(fs.statSync(file, { bigint: true }).mtimeNs - ns);
  expect(Math.abs(off)).toBeLessThan(ns < 0n ? 1_000_001 : 500);
});

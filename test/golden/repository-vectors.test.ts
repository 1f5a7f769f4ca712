import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { describe, expect, onTestFinished, test } from "vitest";

import { bytesOfObject, type GoldenObject, meaningOf } from "../../scripts/golden-object.ts";
import { unwrapKey } from "../../src/keys/data-key.ts";
import { Identities } from "../../src/keys/identities.ts";
import { decodeKeyObject } from "../../src/repository/keys/key-object.ts";
import { objectError } from "../../src/repository/object-error.ts";
import { TidemarkError } from "../../src/runtime/errors.ts";

const golden = path.resolve(import.meta.dirname, "../../proto/golden/repository");
const names = fs
  .readdirSync(golden)
  .filter((name) => name.endsWith(".json"))
  .map((name) => name.replace(/\.json$/, ""));

function load(name: string): { vector: GoldenObject; bytes: Buffer } {
  const vector = JSON.parse(fs.readFileSync(path.join(golden, `${name}.json`), "utf8")) as GoldenObject;
  return { vector, bytes: fs.readFileSync(path.join(golden, `${name}.bin`)) };
}

/** What a reader gets from the bytes in a repository that has nothing else. */
async function outcome(bytes: Uint8Array, vector: GoldenObject): Promise<unknown> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-golden-"));
  onTestFinished(() => fs.rmSync(directory, { recursive: true, force: true }));
  const file = path.join(directory, vector.name);
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, bytes);
  try {
    return await meaningOf(vector, directory);
  } catch (error) {
    const told = objectError(error, { location: directory, name: vector.name });
    if (told instanceof TidemarkError) return { refused: told.code };
    throw error;
  }
}

/** Another release of the zstd library may make pieces of another size. */
function withoutSizes(value: unknown): string {
  return JSON.stringify(value).replaceAll(/"bytes":\d+/g, "");
}

describe.each(names)("golden object %s", (name) => {
  const { vector, bytes } = load(name);

  test("means what its JSON says", async () => {
    const expected = vector.error ? { refused: vector.error } : (vector.value ?? vector.blobs);
    expect(await outcome(bytes, vector)).toEqual(expected);
  });

  if (vector.former) return;
  test("is what its JSON is encoded to", async () => {
    const made = bytesOfObject(vector, golden);
    if (vector.compressed)
      expect(withoutSizes(await outcome(made, vector))).toEqual(withoutSizes(await outcome(bytes, vector)));
    else expect(Buffer.from(made).toString("hex")).toBe(bytes.toString("hex"));
  });
});

test("there is a vector of every kind of object, and every .bin has its .json", () => {
  const kinds = new Set(names.map((name) => load(name).vector.kind));
  const sealed = ["chunk", "table", "list", "pack", "index", "segment", "base", "verified", "lock", "expired"];
  expect(kinds).toEqual(new Set(["config", "key", ...sealed]));
  const binaries = fs.readdirSync(golden).filter((name) => name.endsWith(".bin"));
  expect(binaries.map((name) => name.replace(/\.bin$/, "")).toSorted()).toEqual(names.toSorted());
});

test("a key's object is opened by the identity of one whom it names", async () => {
  const { vector, bytes } = load("v1-key");
  const { identity: text, ...inside } = vector.opened ?? { identity: "" };
  const identities = new Identities({ kind: "text", text, variable: "TIDEMARK_IDENTITY" });
  const key = await unwrapKey(decodeKeyObject(bytes), identities, "the vector");
  const [dataKey, nameKey] = [key.dataKey, key.nameKey].map((one) => Buffer.from(one).toString("hex"));
  expect({ dataKey, nameKey }).toEqual(inside);
});

/** Written from the table in proto/repository.md and nothing else. */
test("the envelope lies where the specification says", () => {
  const { bytes } = load("v1-chunk-encrypted");
  expect(bytes.toString("latin1", 0, 4)).toBe("TDMO");
  expect([bytes[4], bytes[5], bytes.readUInt16BE(6)]).toEqual([1, 1, 2]);
  expect([bytes.readUInt32BE(8), bytes.readUInt32BE(12)]).toEqual([5, 5]);
  expect(bytes.toString("hex", 16, 32)).toBe("00112233445566778899aabbccddeeff");
  expect(bytes.toString("hex", 32, 44)).toBe("000102030405060708090a0b");
  expect(bytes.length).toBe(44 + 5 + 16);
  const plain = load("v1-chunk").bytes;
  expect(plain.toString("latin1", 16, 21)).toBe("hello");
  expect(plain.length).toBe(16 + 5 + 16);
});

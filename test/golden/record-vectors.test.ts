import { execFile } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { describe, expect, onTestFinished, test } from "vitest";
import { z } from "zod";
import { bytesOfVector, type GoldenVector, toJson } from "../../scripts/golden-vector.ts";
import { KIND_FORMATS } from "../../src/event/body-fields.ts";
import {
  decodeRecord,
  decodeRecordHeader,
  NO_PREVIOUS_HASH,
  RECORD_FORMAT_VERSION,
  recordHash,
} from "../../src/event/codec.ts";
import { hasCode } from "../../src/runtime/errors.ts";

const proto = path.resolve(import.meta.dirname, "../../proto");
const golden = path.join(proto, "golden");
const names = readdirSync(golden)
  .filter((name) => name.endsWith(".json"))
  .map((name) => name.replace(/\.json$/, ""));

function load(name: string): { vector: GoldenVector; bytes: Uint8Array } {
  const vector = JSON.parse(readFileSync(path.join(golden, `${name}.json`), "utf8")) as GoldenVector;
  return { vector, bytes: readFileSync(path.join(golden, `${name}.bin`)) };
}

const schemaText = readFileSync(path.join(proto, "record.schema.json"), "utf8");
interface KindSchema {
  readonly title: string;
  readonly properties: Readonly<Record<string, unknown>>;
  readonly required: readonly string[];
}
const schema = JSON.parse(schemaText) as { readonly anyOf: readonly KindSchema[] };
const bodySchema = z.fromJSONSchema(JSON.parse(schemaText) as Parameters<typeof z.fromJSONSchema>[0]);

describe.each(names)("golden vector %s", (name) => {
  const { vector, bytes } = load(name);

  test("means what its JSON says", () => {
    expect(outcome(bytes, vector)).toEqual(vector.record ?? { refused: vector.error });
  });

  test("is what its JSON is encoded to", () => {
    const view = (one: Uint8Array): unknown => (vector.compressed ? withoutCompression(one, vector) : hex(one));
    expect(view(bytesOfVector(vector))).toEqual(view(bytes));
  });

  test("has a body that the schema accepts", () => {
    expect(bodySchema.safeParse(vector.record?.body).success).toBe(vector.record !== undefined);
  });
});

/** What a reader gets from `bytes`. */
function outcome(bytes: Uint8Array, { encryption }: GoldenVector): unknown {
  try {
    return toJson(decodeRecord(bytes, encryption && Buffer.from(encryption.dataKey, "hex")));
  } catch (error) {
    if (hasCode(error, "RECORD_INVALID", "RECORD_VERSION")) return { refused: error.code };
    throw error;
  }
}

/** Another release of the zstd library may compress to other bytes: what went in and what comes out are compared. */
function withoutCompression(bytes: Uint8Array, vector: GoldenVector): unknown {
  const { storedBytes, ...header } = decodeRecordHeader(bytes);
  return { header, smaller: storedBytes < header.rawBytes, meaning: outcome(bytes, vector) };
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

test("there is a vector of every kind, and every .bin has its .json", () => {
  const kinds = new Set(names.map((name) => load(name).vector.record?.body["kind"] ?? "none"));
  expect(kinds).toEqual(new Set([...Object.keys(KIND_FORMATS), "skipped", "none"]));
  const binaries = readdirSync(golden).filter((name) => name.endsWith(".bin"));
  expect(binaries.map((name) => name.replace(/\.bin$/, "")).toSorted()).toEqual(names.toSorted());
});

test("every kind that is written has a vector of the current version, and the next version has one that is refused", () => {
  const current = names
    .filter((name) => name.startsWith(`v${RECORD_FORMAT_VERSION}-`))
    .map((name) => load(name).vector);
  const written = current.filter((vector) => !vector.made).map((vector) => vector.record?.body["kind"]);
  expect(new Set(written)).toEqual(new Set(Object.keys(KIND_FORMATS)));
  const next = names.filter((name) => name.startsWith(`v${RECORD_FORMAT_VERSION + 1}-`));
  expect(next.map((name) => load(name).vector.error)).toEqual(["RECORD_VERSION"]);
});

test("the vectors with offsets 1 to 7 are a chain", () => {
  const chain = ["genesis", "epoch", "sqlite-part", "sqlite-commit", "mark", "heartbeat", "epoch-takeover"];
  let previous = NO_PREVIOUS_HASH;
  for (const [index, name] of chain.entries()) {
    const { bytes } = load(`v1-${name}`);
    const header = decodeRecordHeader(bytes);
    expect(header.offset).toBe(index + 1);
    expect(Buffer.from(header.previousHash)).toEqual(Buffer.from(previous));
    previous = recordHash(bytes);
  }
});

/** Written from the table in proto/record.md and nothing else. */
test("the header lies where the specification says", () => {
  const bytes = Buffer.from(load("v1-sqlite-part").bytes);
  expect(bytes.toString("latin1", 0, 4)).toBe("TDMK");
  expect([bytes[4], bytes[5], bytes.readUInt16BE(6), bytes.readUInt32BE(8)]).toEqual([1, 3, 0, 1]);
  expect(bytes.readBigUInt64BE(16)).toBe(3n);
  expect(bytes.readBigUInt64BE(24)).toBe(1_767_225_600_750n);
  const mapBytes = bytes.readUInt32BE(12);
  expect([bytes.readUInt32BE(64), bytes.readUInt32BE(68)]).toEqual([mapBytes + 512, bytes.length - 80]);
  expect(JSON.stringify(load("v1-sqlite-part").vector.record?.body["pages"])).toBe(
    JSON.stringify([{ pageNumber: 2, data: bytes.toString("hex", 80 + mapBytes) }]),
  );
});

test("the schema names the fields that the codec reads", () => {
  for (const [kind, format] of Object.entries(KIND_FORMATS)) {
    const described = schema.anyOf.find((one) => one.title === kind);
    const raw = format.raw === "pages" || format.raw === "data" ? [format.raw] : [];
    const required = ["kind", ...Object.keys(format.fields), ...raw];
    expect(described?.required.toSorted()).toEqual(required.toSorted());
    const all = [...required, ...Object.keys(format.optional ?? {}), ...(format.raw === "data?" ? ["data"] : [])];
    expect(Object.keys(described?.properties ?? {}).toSorted()).toEqual(all.toSorted());
  }
});

test("the schema refuses what is no body", () => {
  const { body } = load("v1-sqlite-part").vector.record ?? { body: {} };
  const wrong = [
    { ...body, pageSize: 513 },
    { ...body, kind: "other" },
    { ...body, transaction: -1 },
    { kind: "mark" },
  ];
  for (const value of wrong) expect(bodySchema.safeParse(value).success).toBe(false);
  expect(bodySchema.safeParse(body).success).toBe(true);
});

describe("write-golden-vectors", () => {
  const script = path.resolve(import.meta.dirname, "../../scripts/write-golden-vectors.ts");
  const run = async (directory: string): Promise<{ code: number; output: string }> => {
    try {
      const { stdout, stderr } = await promisify(execFile)(process.execPath, [script, directory]);
      return { code: 0, output: stdout + stderr };
    } catch (error) {
      const failed = error as { code: number; stdout: string; stderr: string };
      return { code: failed.code, output: failed.stdout + failed.stderr };
    }
  };
  const copy = (): string => {
    const directory = mkdtempSync(path.join(os.tmpdir(), "tidemark-golden-"));
    onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
    cpSync(golden, directory, { recursive: true });
    return directory;
  };

  test("writes what is missing and leaves the rest alone", async () => {
    const directory = copy();
    rmSync(path.join(directory, "v1-mark.bin"));
    const { code, output } = await run(directory);
    expect(code).toBe(0);
    expect(output.match(/written/g)).toHaveLength(1);
    expect(readFileSync(path.join(directory, "v1-mark.bin"))).toEqual(load("v1-mark").bytes);
  });

  test("never overwrites a vector that would be another now", async () => {
    const directory = copy();
    writeFileSync(path.join(directory, "v1-mark.bin"), "what an older encoder wrote");
    const { code, output } = await run(directory);
    expect(code).toBe(1);
    expect(output).toContain("v1-mark.bin: exists and differs; not overwritten");
    expect(readFileSync(path.join(directory, "v1-mark.bin"), "utf8")).toBe("what an older encoder wrote");
  });
});

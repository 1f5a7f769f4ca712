import * as fc from "fast-check";
import { expect, test } from "vitest";
import { decodeRecord, decodeRecordHeader, encodeRecord, MAX_RECORD_BYTES } from "../../src/event/codec.ts";
import { packMap } from "../../src/event/message-pack.ts";
import { RECORD_HEADER_BYTES, writeRecordChecksum } from "../../src/event/record-header.ts";
import { hasCode } from "../../src/runtime/errors.ts";
import { anyFields, anyRecord, codeOf, forge } from "./record-samples.ts";

// fast-check prints seed and path of a failure; `fc.assert(…, { seed, path })` repeats it.
const MIB = 1024 * 1024;
/** Slower than this and an input has found a way to make the decoder work for nothing. */
const MAX_MS = 5_000;

/**
 * The promise: an error with a code, or an event that encodes and decodes to itself; soon, and without a large allocation.
 * Throws when it is broken.
 */
function survives(record: Uint8Array): "event" | "refused" {
  const before = process.memoryUsage().arrayBuffers;
  const started = performance.now();
  const outcome = decodeOrRefuse(record);
  expect(performance.now() - started).toBeLessThan(MAX_MS);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(40 * MIB);
  if (!outcome) return "refused";
  expect(plain(again(outcome))).toEqual(plain(outcome.body));
  return "event";
}

function again(event: ReturnType<typeof decodeRecord>): unknown {
  const { body, bytes: _, ...position } = event;
  return body.kind === "skipped" || body.kind === "sealed"
    ? body
    : decodeRecord(encodeRecord({ ...position, body })).body;
}

function decodeOrRefuse(record: Uint8Array): ReturnType<typeof decodeRecord> | undefined {
  try {
    return decodeRecord(record);
  } catch (error) {
    if (hasCode(error, "RECORD_INVALID", "RECORD_VERSION")) return undefined;
    throw error;
  }
}

test("any record that the format allows says again what it was given", () => {
  fc.assert(
    fc.property(anyFields, (fields) => {
      const record = encodeRecord(fields);
      const { bytes, previousHash, ...event } = decodeRecord(record);
      const { previousHash: given, consistent, ...expected } = fields;
      expect(plain(event)).toEqual(plain(consistent ? { ...expected, consistent } : expected));
      expect(Buffer.from(previousHash)).toEqual(Buffer.from(given));
      expect(bytes).toBe(record.length);
      expect(record.length).toBeLessThanOrEqual(MAX_RECORD_BYTES);
      expect(Buffer.from(encodeRecord(fields))).toEqual(Buffer.from(record));
    }),
    { numRuns: 600 },
  );
});

test("arbitrary bytes are refused", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 2_000 }), (bytes) => {
      expect(survives(bytes)).toBe("refused");
    }),
    { numRuns: 2_000 },
  );
});

test("arbitrary bytes behind the magic are refused, by the header's decoder too", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 500 }), (bytes) => {
      const record = Buffer.concat([Buffer.from("TDMK\x01"), bytes]);
      expect(survives(record)).toBe("refused");
      expect(["none", "RECORD_INVALID", "RECORD_VERSION"]).toContain(codeOf(() => decodeRecordHeader(record)));
    }),
    { numRuns: 2_000 },
  );
});

test("a record with a flipped bit is refused", () => {
  fc.assert(
    fc.property(anyRecord, fc.nat(), fc.nat({ max: 7 }), (record, position, bit) => {
      const at = position % record.length;
      record[at] = (record[at] ?? 0) ^ (1 << bit);
      expect(survives(record)).toBe("refused");
    }),
    { numRuns: 1_000 },
  );
});

test("a record cut off or lengthened is refused", () => {
  fc.assert(
    fc.property(anyRecord, fc.nat(), fc.uint8Array({ minLength: 1, maxLength: 40 }), (record, position, more) => {
      expect(survives(record.subarray(0, position % record.length))).toBe("refused");
      expect(survives(Buffer.concat([record, more]))).toBe("refused");
    }),
    { numRuns: 400 },
  );
});

const lengthField = fc.constantFrom(12, 64, 68);
const lengthValue = fc.oneof(fc.nat({ max: 0xffffffff }), fc.nat({ max: 4_096 }), fc.constantFrom(0, 1, 16 * MIB));

test("changed lengths under a right checksum never crash, hang or allocate what they claim", () => {
  fc.assert(
    fc.property(
      anyRecord,
      fc.array(fc.tuple(lengthField, lengthValue), { minLength: 1, maxLength: 3 }),
      (record, changes) => {
        const view = new DataView(record.buffer, record.byteOffset, record.length);
        for (const [at, value] of changes) view.setUint32(at, value);
        writeRecordChecksum(record);
        expect(["event", "refused"]).toContain(survives(record));
      },
    ),
    { numRuns: 1_000 },
  );
});

test("changed bytes under a right checksum are refused or make an event that is as good as any", () => {
  const change = fc.tuple(fc.nat(), fc.nat({ max: 255 }));
  const seen = new Set<string>();
  fc.assert(
    fc.property(
      anyRecord,
      fc.array(change, { minLength: 1, maxLength: 6 }),
      fc.boolean(),
      (record, changes, onlyBody) => {
        const from = onlyBody ? RECORD_HEADER_BYTES : 5;
        // Most of a record is pages, where any byte is right: three of four changes go into the header and the map.
        for (const [position, value] of changes) {
          const span = position % 4 === 0 ? record.length - from : Math.min(record.length - from, 200);
          record[from + (position % span)] = value;
        }
        writeRecordChecksum(record);
        seen.add(survives(record));
      },
    ),
    { numRuns: 3_000 },
  );
  // Otherwise the property would hold for a decoder that refuses everything, or nothing was mutated.
  expect(seen).toEqual(new Set(["event", "refused"]));
});

test("a map of arbitrary bytes under a right checksum is refused", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 13 }), fc.uint8Array({ maxLength: 300 }), (kind, map) => {
      expect(survives(forge({ kind, map }))).toBe("refused");
    }),
    { numRuns: 3_000 },
  );
});

test("a map of arbitrary values under a right checksum is refused or makes a valid event", () => {
  const names = [
    "name",
    "set",
    "logId",
    "checksumSeed",
    "database",
    "pageSize",
    "pages",
    "wal",
    "writer",
    "host",
    "epoch",
    "tree",
    "path",
    "put",
    "chunks",
    "mtimeNs",
    "xattrs",
  ];
  const value = fc.oneof(
    fc.string(),
    fc.uint8Array({ maxLength: 72 }),
    fc.double(),
    fc.nat(),
    fc.bigInt({ min: -(1n << 63n), max: (1n << 64n) - 1n }),
    fc.jsonValue(),
  );
  const map = fc.dictionary(fc.oneof(fc.constantFrom(...names), fc.string({ maxLength: 12 })), value, { maxKeys: 12 });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 13 }), map, fc.uint8Array({ maxLength: 600 }), (kind, fields, tail) => {
      const record = forge({ kind, map: packMap(fields).slice(), tail });
      expect(["event", "refused"]).toContain(survives(record));
    }),
    { numRuns: 3_000 },
  );
});

/** Bytes are Buffers or Uint8Arrays depending on where they come from; only what they are matters. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return Buffer.from(value).toString("hex");
  if (value instanceof Map) return [...value].map(plain);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, inner]: [string, unknown]) => [name, plain(inner)]));
}

import { randomBytes } from "node:crypto";
import { describe, expect, test } from "vitest";
import {
  decodeRecord,
  encodeRecord,
  keyOffsetIn,
  MAX_RECORD_BYTES,
  packBody,
  pagesPerRecord,
} from "../../src/event/codec.ts";
import type { EventBody } from "../../src/event/kinds.ts";
import { epoch, offset } from "../../src/event/positions.ts";
import { Nonces, type RecordEncryption } from "../../src/event/record-cipher.ts";
import { writeRecordChecksum } from "../../src/event/record-header.ts";
import { codeOf, commit, filePut, messageOf, recordFields } from "./record-samples.ts";

const dataKey = Buffer.alloc(32, 5);
const nonces = new Nonces();
const encryption: RecordEncryption = { dataKey, keyOffset: offset(3), nextNonce: () => nonces.next() };
const MARK: EventBody = { kind: "mark", name: "before the move" };

function encrypted(body: EventBody = MARK): Uint8Array {
  return encodeRecord({ ...recordFields(body), encryption });
}

/** With a byte changed, and the checksum right again. */
function changed(record: Uint8Array, at: number, value: number): Uint8Array {
  const copy = Buffer.from(record);
  copy[at] = value;
  writeRecordChecksum(copy);
  return copy;
}

const bodies: readonly EventBody[] = [
  MARK,
  commit({ pages: [{ pageNumber: 3, data: randomBytes(512) }] }),
  commit({ pages: [{ pageNumber: 3, data: Buffer.alloc(512) }] }),
  filePut(),
  { kind: "file.chunk", id: randomBytes(32), data: randomBytes(100_000) },
  { kind: "file.chunk", id: randomBytes(32), data: Buffer.alloc(100_000, "so it is; ") },
];

test.each(bodies)("$kind comes back as it was, and its content is not in the record", (body) => {
  const record = encrypted(body);
  expect(decodeRecord(record, dataKey).body).toEqual(body);
  expect(keyOffsetIn(record)).toBe(3);
  const plain = encodeRecord(recordFields(body));
  expect(record.length).toBe(plain.length + 36);
  const packed = encodeRecord({ ...recordFields(packBody(body, { isDoubtful: false })), encryption });
  expect(decodeRecord(packed, dataKey).body).toEqual(body);
  for (let at = 80; at + 32 <= plain.length; at += 16) {
    expect(Buffer.from(record).includes(Buffer.from(plain.subarray(at, at + 32)))).toBe(false);
  }
});

test.each<EventBody>([
  { kind: "genesis", set: "app", logId: "id", checksumSeed: 1n, createdBy: "t" },
  { kind: "epoch", epoch: epoch(3), writer: "w", host: "h", reason: "start" },
  { kind: "heartbeat", writer: "w", host: "h" },
  { kind: "key", id: randomBytes(16), wrapped: randomBytes(200), recipients: ["age1abc"] },
])("$kind is never encrypted, and refused when it is", (body) => {
  const record = encrypted(body);
  expect(decodeRecord(record).body).toEqual(body);
  const forged = Buffer.concat([record, Buffer.alloc(36)]);
  forged.writeUInt16BE(2, 6);
  forged.writeUInt32BE(forged.length - 80, 68);
  forged.writeBigUInt64BE(1n, 80);
  writeRecordChecksum(forged);
  expect(messageOf(() => decodeRecord(forged, dataKey))).toContain("which this kind never is");
});

test("without its key a record says its kind and nothing more", () => {
  expect(decodeRecord(encrypted()).body).toEqual({ kind: "sealed", of: "mark" });
  expect(keyOffsetIn(encodeRecord(recordFields(MARK)))).toBeUndefined();
});

describe("what is not as it was encrypted does not open", () => {
  const record = encrypted();
  const refused: [string, Uint8Array, Uint8Array][] = [
    ["another key", record, Buffer.alloc(32, 6)],
    ["another offset", changed(record, 23, 8), dataKey],
    ["another epoch", changed(record, 11, 9), dataKey],
    ["another time", changed(record, 31, 1), dataKey],
    ["another predecessor", changed(record, 40, 1), dataKey],
    ["marked as a consistent point", changed(record, 7, 2 | 16), dataKey],
    ["another kind", changed(record, 5, 10), dataKey],
    ["another nonce", changed(record, 90, (record[90] ?? 0) ^ 1), dataKey],
    ["a changed byte", changed(record, 101, (record[101] ?? 0) ^ 1), dataKey],
    ["another tag", changed(record, record.length - 1, (record.at(-1) ?? 0) ^ 1), dataKey],
  ];
  test.each(refused)("%s", (_, data, key) => {
    expect(codeOf(() => decodeRecord(data, key))).toBe("RECORD_INVALID");
    expect(messageOf(() => decodeRecord(data, key))).toContain("does not open with its key");
  });

  test("the nonce of another record", () => {
    const other = Buffer.from(encrypted());
    record.slice(88, 100).forEach((byte, index) => (other[88 + index] = byte));
    writeRecordChecksum(other);
    expect(codeOf(() => decodeRecord(other, dataKey))).toBe("RECORD_INVALID");
  });
});

test("a key that is announced nowhere, or later, is refused before it is looked for", () => {
  for (const at of [0n, 7n, 8n, 1n << 60n]) {
    const record = Buffer.from(encrypted());
    record.writeBigUInt64BE(at, 80);
    writeRecordChecksum(record);
    expect(messageOf(() => keyOffsetIn(record))).toContain(`announced at offset ${at}, which is not before it`);
  }
});

test("a body too short to be encrypted is refused", () => {
  const record = Buffer.from(encodeRecord(recordFields(MARK)).subarray(0, 80 + 35));
  record.writeUInt16BE(2, 6);
  record.writeUInt32BE(record.length - 80, 68);
  writeRecordChecksum(record);
  expect(codeOf(() => decodeRecord(record, dataKey))).toBe("RECORD_INVALID");
  expect(codeOf(() => keyOffsetIn(record))).toBe("RECORD_INVALID");
});

test("as many pages as fit into a record fit into an encrypted one", () => {
  for (const pageSize of [512, 4096, 65_536]) {
    const count = pagesPerRecord(pageSize);
    const pages = Array.from({ length: count }, (_, i) => ({
      pageNumber: 0xfffffff0 - i,
      data: randomBytes(pageSize),
    }));
    const record = encrypted(commit({ database: "n".repeat(255), pageSize, pages }));
    expect(record.length).toBeLessThanOrEqual(MAX_RECORD_BYTES);
  }
});

test("no nonce comes twice, in one process or in the next", () => {
  const seen = new Set<string>();
  for (const one of [new Nonces(), new Nonces(), new Nonces()])
    for (let i = 0; i < 1000; i += 1) seen.add(Buffer.from(one.next()).toString("hex"));
  expect(seen.size).toBe(3000);
});

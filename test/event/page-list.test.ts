import { expect, test } from "vitest";

import { decodeBody, encodeBody } from "../../src/event/body-codec.ts";
import type { SqliteCommit, SqlitePart } from "../../src/event/kinds.ts";
import { type PageList, PageListReader } from "../../src/event/page-list.ts";
import { Random } from "../support/random.ts";

const random = new Random("page lists");
const NUMBERS = [0, 1, 127, 128, 255, 256, 65_535, 65_536, 0xfffffffe] as const;
const SAFE = [...NUMBERS, 2 ** 32, Number.MAX_SAFE_INTEGER] as const;
const SUMS = [0n, 1n, 2n ** 32n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n] as const;

function somePages(pageSize: number): SqliteCommit["pages"] {
  const count = random.pick([0, 1, 15, 16, 40]);
  const numbers = Array.from({ length: count }, () => Math.max(1, random.pick(NUMBERS)));
  return numbers.map((pageNumber) => ({ pageNumber, data: new Uint8Array(pageSize) }));
}

function someBody(): SqlitePart | SqliteCommit {
  const pageSize = random.pick([512, 4096, 65_536]);
  const common = {
    database: random.pick(["app.db", "dätenbank.db", "d".repeat(31), "d".repeat(32), "d".repeat(255)]),
    transaction: random.pick(SAFE),
    pageSize,
    pages: somePages(pageSize),
  };
  if (random.integer(0, 2) === 0) return { kind: "sqlite.part", ...common, sequence: random.pick(NUMBERS) };
  const u32 = (): number => random.pick(NUMBERS);
  return {
    kind: "sqlite.commit",
    ...common,
    parts: u32(),
    cause: random.pick(["commit", "copy", "repair"]),
    commits: u32(),
    sizePages: u32(),
    before: random.pick(SUMS),
    after: random.pick(SUMS),
    wal: { salt1: u32(), salt2: u32(), frame: u32(), checksum1: u32(), checksum2: u32() },
    ...(random.integer(0, 3) === 0 ? { gapSinceMs: 1_700_000_000_000 } : {}),
  };
}

/** What every body's way gives; undefined when it finds the map unsound. */
function wholly({ kind }: SqlitePart | SqliteCommit, raw: Uint8Array, mapBytes: number): PageList | undefined {
  try {
    const { pages, ...body } = decodeBody(kind, raw, mapBytes) as SqlitePart | SqliteCommit;
    return { body, pageNumbers: pages.map(({ pageNumber }) => pageNumber) };
  } catch {
    return undefined;
  }
}

test("the pages of a part or a commit are listed as its body says it, however it is written; a name that is new, too", () => {
  let changed = 0;
  for (let round = 0; round < 300; round += 1) {
    const body = someBody();
    const { map, rawBytes } = encodeBody(body);
    const raw = Buffer.concat([map, Buffer.alloc(rawBytes - map.length)]);
    const end = 100 + map.length;
    const memory = Buffer.concat([Buffer.alloc(100, 0x93), raw.subarray(0, map.length), Buffer.alloc(50, 0x93)]);
    const reader = new PageListReader(memory);
    // The second time its name is known.
    for (const _ of [1, 2]) {
      const list = reader.read(body.kind, [100, end]);
      expect(wholly(body, raw, map.length)).toMatchObject(list);
    }
    const at = random.integer(0, end - 101);
    raw[at] = (raw[at] ?? 0) ^ (1 << random.integer(0, 7));
    memory[100 + at] = raw[at] ?? 0;
    const sound = wholly(body, raw, end - 100);
    if (!sound) continue;
    changed += 1;
    expect(sound).toMatchObject(reader.read(body.kind, [100, end]));
  }
  expect(changed).toBeGreaterThan(10);
});

test("a map that is cut, or goes on, is refused", () => {
  const body = someBody();
  const { map } = encodeBody({ ...body, pages: [] });
  const bytes = Buffer.concat([map, Buffer.alloc(10)]);
  for (const end of [0, 1, map.length - 1, map.length + 1]) {
    const reader = new PageListReader(bytes);
    for (const _ of [1, 2]) {
      expect(() => reader.read(body.kind, [0, end])).toThrow(/map|field/);
      reader.read(body.kind, [0, map.length]);
    }
  }
});

test("a checksum that is none, or a page 0, is refused", () => {
  let body = someBody();
  while (body.kind !== "sqlite.commit") body = someBody();
  const bytes = Buffer.from(encodeBody({ ...body, pages: somePages(512).slice(0, 0), after: 2n ** 63n }).map);
  const reader = new PageListReader(bytes);
  const read = (): PageList => reader.read("sqlite.commit", [0, bytes.length]);
  read();
  const at = bytes.indexOf("after") + "after".length;
  bytes[at] = 0xd3;
  expect(read).toThrow("field after");
  bytes[at] = 0xcf;
  const listed = Buffer.concat([bytes.subarray(0, -1), Buffer.of(0x91, 0)]);
  expect(() => new PageListReader(listed).read("sqlite.commit", [0, listed.length])).toThrow("page number");
});

import { expect, test } from "vitest";

import type { PageList } from "../../src/event/page-list.ts";
import { offset } from "../../src/event/positions.ts";
import type { OutlinedEvent } from "../../src/repository/segment.ts";
import { PagesBack } from "../../src/restore/pages-back.ts";
import type { PlannedDatabase } from "../../src/restore/plan.ts";
import { Random } from "../support/random.ts";

const PAGE = 512;
const BASE_PAGES = 12;
/** So many bytes of page images an event may have: where one lies tells which event it is of. */
const ROOM = 1_000_000;

/** A life of a database: commits, some of them with parts, some parts that nothing closes, growth and shrinking. */
class Life {
  readonly events: OutlinedEvent[] = [];
  /** Of each page where its image lies; 0: as in the base. */
  pages = new Map(Array.from({ length: BASE_PAGES }, (_, at): [number, number] => [at + 1, 0]));
  sizePages = BASE_PAGES;
  checksum = 1n;
  #transaction = 0;
  readonly #random: Random;

  constructor(random: Random) {
    this.#random = random;
  }

  commit(): void {
    const before = this.checksum;
    const parts = this.#random.integer(0, 3) === 0 ? this.#random.integer(1, 3) : 0;
    this.#transaction += 1;
    if (this.#random.integer(0, 5) === 0) this.abandoned();
    // Begun, and begun again under the same number.
    if (this.#random.integer(0, 5) === 0) this.#part(0);
    const sizePages = this.#random.integer(1, 20);
    const written = Array.from({ length: parts }, (_, sequence) => this.#part(sequence));
    this.checksum += 1n;
    const { checksum: after } = this;
    const numbers = this.#numbers(sizePages);
    written.push(this.#add({ kind: "sqlite.commit", ...this.#common(), parts, sizePages, before, after }, numbers));
    for (const { pageNumbers, pagesAt } of written)
      for (const [at, page] of pageNumbers.entries()) this.pages.set(page, pagesAt + at * PAGE);
    this.sizePages = sizePages;
    for (const page of this.pages.keys()) if (page > sizePages) this.pages.delete(page);
  }

  abandoned(): void {
    for (let sequence = 0; sequence < 2; sequence += 1) this.#part(sequence);
    this.#transaction += 1;
  }

  #part(sequence: number): OutlinedEvent {
    return this.#add({ kind: "sqlite.part", ...this.#common(), sequence }, this.#numbers(25));
  }

  #common(): { database: string; transaction: number; pageSize: number } {
    return { database: "app.db", transaction: this.#transaction, pageSize: PAGE };
  }

  #numbers(most: number): number[] {
    return Array.from({ length: this.#random.integer(0, 4) }, () => this.#random.integer(1, most));
  }

  #add(body: PageList["body"], pageNumbers: readonly number[]): OutlinedEvent {
    const at = offset(101 + this.events.length);
    const event = { offset: at, body, pageNumbers, pagesAt: at * ROOM };
    this.events.push(event);
    return event;
  }
}

function planned(life: Life): PlannedDatabase {
  const base = { name: "app.db", pageSize: PAGE, sizePages: BASE_PAGES, checksum: 1n, blockCount: 0 };
  const block = (): never => {
    throw new Error("nothing is fetched");
  };
  return {
    name: "app.db",
    afterOffset: offset(100),
    base: { ...base, block },
    offset: life.events.at(-1)?.offset ?? offset(100),
    timeMs: 0,
    pageSize: PAGE,
    sizePages: life.sizePages,
    peakPages: 25,
    checksum: life.checksum,
    transactions: new Set(),
  };
}

/** What the database looks like when only the images that count are written over the base. */
function replayed(life: Life, back: PagesBack): Map<number, number> {
  const pages = new Map(Array.from({ length: BASE_PAGES }, (_, at): [number, number] => [at + 1, 0]));
  const seen = new Set<number>();
  for (const event of life.events.toReversed()) {
    for (const { pageNumber, at, bytes } of back.take(event)) {
      expect(seen.has(pageNumber)).toBe(false);
      expect(bytes).toBe(PAGE);
      seen.add(pageNumber);
      pages.set(pageNumber, at);
    }
  }
  const end = back.end();
  for (const page of end?.gone ?? []) pages.delete(page);
  for (const page of pages.keys()) if (page > (end?.sizePages ?? BASE_PAGES)) pages.delete(page);
  return pages;
}

const ascending = (pages: Map<number, number>): [number, number][] => [...pages].sort(([one], [other]) => one - other);

test("the last image of each page, told from the last event to the first, gives what all of them give in their order", () => {
  const random = new Random("pages back");
  for (let round = 0; round < 500; round += 1) {
    const life = new Life(random);
    for (let commits = random.integer(0, 12); commits > 0; commits -= 1) life.commit();
    const back = new PagesBack(planned(life));
    expect(ascending(replayed(life, back))).toEqual(ascending(life.pages));
    expect(back.openFrom).toBeUndefined();
    if (life.events.length > 0)
      expect(back.end()).toMatchObject({ checksum: life.checksum, sizePages: life.sizePages });
  }
});

test("parts that nothing closes are left to whoever reads on, from the first of them", () => {
  const life = new Life(new Random("open parts"));
  life.commit();
  const before = ascending(life.pages);
  const openFrom = 101 + life.events.length;
  life.abandoned();
  const back = new PagesBack(planned(life));
  expect(ascending(replayed(life, back))).toEqual(before);
  expect(back.openFrom).toBe(openFrom);
});

test("commits that do not follow each other, or not the base, and parts that are missing are refused", () => {
  const chain = (spoil: (life: Life) => void): (() => void) => {
    const life = new Life(new Random("a chain"));
    const hasParts = (): boolean => life.events.some(({ body }) => body.kind === "sqlite.commit" && body.parts > 0);
    for (let commits = 0; commits < 8 || !hasParts(); commits += 1) life.commit();
    spoil(life);
    return () => void replayed(life, new PagesBack(planned(life)));
  };
  expect(chain(() => undefined)).not.toThrow();
  const drop = (life: Life, kind: string, from: number): void => {
    const at = life.events.findIndex(({ body }, index) => index >= from && body.kind === kind);
    life.events.splice(at, 1);
  };
  expect(chain((life) => drop(life, "sqlite.commit", 4))).toThrow("the checksum before the event");
  expect(chain((life) => drop(life, "sqlite.commit", 0))).toThrow("the checksum before the event");
  expect(
    chain((life) => {
      const commit = life.events.find(({ body }) => body.kind === "sqlite.commit" && body.parts > 0);
      const isPart = ({ body }: OutlinedEvent): boolean =>
        body.kind === "sqlite.part" && body.transaction === commit?.body.transaction;
      life.events.splice(0, life.events.length, ...life.events.filter((event) => !isPart(event)));
    }),
  ).toThrow("is not whole");
});

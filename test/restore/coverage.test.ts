import * as fc from "fast-check";
import { expect, test } from "vitest";

import { type Offset, offset } from "../../src/event/positions.ts";
import { type Piece, PieceIndex, restorableRanges } from "../../src/restore/coverage.ts";

function piece(first: number, last: number): Piece {
  return { first: offset(first), last: offset(last) };
}

function ranges(given: { segments?: Piece[]; bases?: number[]; log?: Piece }): [number, number][] {
  const { segments = [], bases = [], log } = given;
  const found = restorableRanges({ segments, bases: bases.map((at) => offset(at)), log });
  return found.map(({ first, last }) => [first, last]);
}

test("from the first event, from a base on, a base alone, a log's tail, and what leads nowhere", () => {
  expect(ranges({ segments: [piece(1, 10), piece(11, 20)] })).toEqual([[1, 20]]);
  expect(ranges({ segments: [piece(5, 10), piece(11, 20)], bases: [7] })).toEqual([[7, 20]]);
  expect(ranges({ segments: [piece(5, 10)], bases: [4, 8] })).toEqual([[4, 10]]);
  expect(ranges({ segments: [piece(5, 10)], bases: [3] })).toEqual([[3, 3]]);
  expect(ranges({ segments: [piece(5, 10), piece(12, 14)], bases: [12] })).toEqual([[12, 14]]);
  expect(ranges({ segments: [piece(5, 10)], bases: [5], log: piece(11, 30) })).toEqual([[5, 30]]);
  expect(ranges({ segments: [piece(5, 10)], bases: [5], log: piece(9, 30) })).toEqual([[5, 30]]);
  expect(ranges({ segments: [piece(5, 10)], bases: [5], log: piece(12, 30) })).toEqual([
    [5, 10],
    [12, 30],
  ]);
  expect(ranges({ bases: [0 + 3], log: piece(1, 2) })).toEqual([
    [1, 2],
    [3, 3],
  ]);
  expect(ranges({})).toEqual([]);
});

const somePieces = fc.array(
  fc
    .record({ first: fc.integer({ min: 1, max: 40 }), length: fc.integer({ min: 0, max: 12 }) })
    .map(({ first, length }) => piece(first, first + length)),
  { maxLength: 8 },
);

test("a restorable offset is a base's, or every event from a beginning to it is there", () => {
  fc.assert(
    fc.property(somePieces, fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 4 }), (segments, given) => {
      const bases = given.map((at) => offset(at));
      const has = (at: number): boolean => segments.some(({ first, last }) => first <= at && at <= last);
      const leadsTo = (start: number, at: Offset): boolean => {
        for (let event = start + 1; event <= at; event += 1) if (!has(event)) return false;
        return start <= at;
      };
      const found = restorableRanges({ segments, bases, log: undefined });
      for (let at = 1; at <= 60; at += 1) {
        const expected = [...bases, ...(has(1) ? [0] : [])].some((start) => leadsTo(start, offset(at)));
        const inRange = found.filter(({ first, last }) => first <= at && at <= last);
        expect(inRange.length, `${at}`).toBe(expected ? 1 : 0);
      }
    }),
  );
});

test("the index finds of the pieces that hold an event the one that goes furthest", () => {
  fc.assert(
    fc.property(somePieces, (pieces) => {
      const index = new PieceIndex(pieces);
      for (let at = 1; at <= 60; at += 1) {
        const holding = pieces.filter(({ first, last }) => first <= at && at <= last).map(({ last }) => last);
        expect(index.at(offset(at))?.last).toBe(holding.length === 0 ? undefined : Math.max(...holding));
      }
    }),
  );
});

import { expect, test } from "vitest";

import { parseRestoreTarget } from "../../src/restore/restore-target.ts";
import { TidemarkError } from "../../src/runtime/errors.ts";

function refusal(text: string): TidemarkError {
  try {
    parseRestoreTarget(text);
  } catch (error) {
    if (error instanceof TidemarkError) return error;
  }
  throw new Error(`${text} was not refused`);
}

test("the four forms", () => {
  expect(parseRestoreTarget("latest")).toEqual({ kind: "latest" });
  expect(parseRestoreTarget(" 812 ")).toEqual({ kind: "offset", offset: 812 });
  expect(parseRestoreTarget("mark:before: the move")).toEqual({ kind: "mark", name: "before: the move" });
  expect(parseRestoreTarget("2026-05-04T10:15:00Z")).toEqual({
    kind: "time",
    timeMs: Date.UTC(2026, 4, 4, 10, 15),
    text: "2026-05-04T10:15:00Z",
  });
});

test.for([
  ["2026-05-04T10:15:00.250Z", Date.UTC(2026, 4, 4, 10, 15, 0, 250)],
  ["2026-05-04T10:15:00.2509999Z", Date.UTC(2026, 4, 4, 10, 15, 0, 250)],
  ["2026-05-04T10:15:00.2z", Date.UTC(2026, 4, 4, 10, 15, 0, 200)],
  ["2026-05-04t12:15:00+02:00", Date.UTC(2026, 4, 4, 10, 15)],
  ["2026-05-04 05:45:00-04:30", Date.UTC(2026, 4, 4, 10, 15)],
  ["2024-02-29T23:59:59-00:00", Date.UTC(2024, 1, 29, 23, 59, 59)],
  ["2026-01-01T00:00:00+01:00", Date.UTC(2025, 11, 31, 23)],
  ["0099-01-01T00:00:00Z", Date.parse("0099-01-01T00:00:00Z")],
] as const)("%s is the moment it says", ([text, timeMs]) => {
  expect(parseRestoreTarget(text)).toMatchObject({ kind: "time", timeMs });
});

test.for([
  "2026-02-29T10:15:00Z",
  "2026-04-31T10:15:00Z",
  "2026-13-01T10:15:00Z",
  "2026-00-10T10:15:00Z",
  "2026-05-04T24:00:00Z",
  "2026-05-04T10:60:00Z",
  "2026-05-04T10:15:61Z",
  "2026-05-04T10:15:00+24:00",
  "2026-05-04T10:15:00+0200",
  "2026-05-04T10:15Z",
  "2026-05-04",
  "2026-05-04T10:15:00.Z",
])("%s is refused as a time", (text) => {
  expect(refusal(text)).toMatchObject({ code: "TIME_INVALID", exitCode: 2 });
  expect(refusal(text).message).toContain(text);
  expect(refusal(text).hint).toContain("2026-05-04T10:15:00Z");
});

test("a time without zone is told how to write its own time", () => {
  const error = refusal("2026-05-04 10:15");
  expect(error.code).toBe("TIME_INVALID");
  expect(error.hint).toContain("2026-05-04T10:15:00Z");
  expect(refusal("2027-01-02T03:04:05.678").hint).toContain("2027-01-02T03:04:05.678+02:00");
});

test("a leap second is named as such", () => {
  expect(refusal("2016-12-31T23:59:60Z").message).toContain("leap second");
});

test.for(["", "newest", "mark:", "12.5", "-3", "1e3", "99999999999999999999", "yesterday", "10:15"])(
  "%j is refused with the four forms",
  (text) => {
    const error = refusal(text);
    expect(error.code).toBe("USAGE");
    for (const form of ["latest", "812", "2026-05-04T10:15:00Z", "mark:NAME"]) expect(error.hint).toContain(form);
  },
);

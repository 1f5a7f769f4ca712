import { expect, test } from "vitest";

import { offset } from "../../src/event/positions.ts";
import { answeredBy, chooseSuccessor, type Wanted } from "../../src/failover/choose-successor.ts";
import type { RegisteredReplica, StandbyPosition } from "../../src/log/change-log.ts";

// Who takes over, from what the standbys say of themselves.

const ASKED = offset(100);

function standby(id: string, applied: number, more: Partial<StandbyPosition> = {}): RegisteredReplica {
  const position = { applied: offset(applied), verified: true, promotable: true, ...more };
  return { id, host: `host-${id}`, standby: "/srv/standby", offset: offset(applied), atMs: 0, position };
}

const old: RegisteredReplica = { id: "old", host: "h", standby: "/srv/s", offset: offset(100), atMs: 0 };
const wanted: Wanted = { to: undefined, asked: ASKED, force: false, nowMs: 5000 };

test("the one that answered, of several the furthest; a name or id narrows it down", () => {
  const known = [standby("a", 100), standby("b", 101), standby("c", 99), old];
  expect(chooseSuccessor(known, wanted).id).toBe("b");
  expect(chooseSuccessor(known, { ...wanted, to: "host-a" }).id).toBe("a");
  expect(chooseSuccessor(known, { ...wanted, to: "a" }).id).toBe("a");
  expect(answeredBy(known, { ...wanted, to: "c" })).toBeUndefined();
});

test("nobody, one that the primary keeps itself or that is too old, one that is behind, one that is not proved", () => {
  const refusal = (known: readonly RegisteredReplica[], more: Partial<Wanted> = {}): unknown => {
    try {
      return chooseSuccessor(known, { ...wanted, ...more }).id;
    } catch (error) {
      return (error as { code: string }).code;
    }
  };
  expect(refusal([])).toBe("STANDBY_MISSING");
  expect(refusal([standby("a", 100)], { to: "b" })).toBe("STANDBY_MISSING");
  expect(refusal([old, standby("a", 100, { promotable: false })], { force: true })).toBe("STANDBY_MISSING");
  expect(refusal([standby("a", 42)])).toBe("STANDBY_BEHIND");
  expect(refusal([standby("a", 100, { verified: false })])).toBe("STANDBY_UNVERIFIED");
  expect(refusal([standby("a", 42), standby("b", 43)], { force: true })).toBe("b");
});

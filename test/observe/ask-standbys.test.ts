import { expect, test } from "vitest";

import { offset } from "../../src/event/positions.ts";
import { askStandbys } from "../../src/observe/ask-standbys.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { ReplicaFixture } from "../support/replica-fixture.ts";

// Who counts when standbys are asked how far they are: over a real log, with one real standby and others that only say something.

test("a standby that answers counts; one that is behind does not, nor one that knows more than there was to know", async () => {
  await using fixture = await ReplicaFixture.open();
  const { log } = fixture.log;
  const source = fixture.source("app.db");
  await fixture.log.ship("app.db", source);
  const { writer } = fixture.log;
  const agent = {
    sync: async () => writer.flush(),
    askStandbys: async () =>
      writer.append([{ kind: "heartbeat", writer: "w", host: "h", asks: "position" }]).acknowledged,
  };
  await (
    await fixture.start()
  ).ready;
  const position = { verified: true, promotable: true };
  const one = { host: "h", standby: "/srv/s", offset: offset(1), atMs: 0 };
  await log.register({ ...one, id: "behind", position: { ...position, applied: offset(1) } });
  await log.register({ ...one, id: "stranger", position: { ...position, applied: offset(1000) } });
  const options = { clock: systemClock, timeoutMs: 5000, signal: new AbortController().signal };
  const { offset: at, standbys } = await askStandbys(
    { agent, log },
    (known, asked) => known.some((standby) => (standby.position?.applied ?? 0) >= asked),
    options,
  );
  const answered = standbys.filter((standby) => (standby.position?.applied ?? 0) >= at);
  expect(answered.map(({ standby }) => standby)).toEqual([fixture.standby]);
  expect(standbys.map(({ id }) => id)).toContain("behind");
});

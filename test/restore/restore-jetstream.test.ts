import fs from "node:fs";
import path from "node:path";

import { expect, test } from "vitest";

import { BEFORE_FIRST, type Offset } from "../../src/event/positions.ts";
import { openJetStreamLog } from "../../src/log/jetstream-log.ts";
import { LogHistory } from "../../src/restore/log-history.ts";
import { parseRestoreTarget } from "../../src/restore/restore-target.ts";
import { restore } from "../../src/restore/restore.ts";
import { readAll } from "../support/log-records.ts";
import { natsConfig, NatsServer } from "../support/nats-server.ts";
import { RestoreBench } from "./support/restore-bench.ts";

test("the same restores from JetStream", { timeout: 60_000 }, async () => {
  await using bench = await RestoreBench.open();
  await using server = await NatsServer.start();
  const source = bench.source();
  const history: { offset: Offset; image: Uint8Array }[] = [];
  for (const [second, sql] of [
    "CREATE TABLE t (b)",
    "INSERT INTO t VALUES (randomblob(3000000))",
    "DELETE FROM t; VACUUM",
  ].entries()) {
    history.push({ offset: await bench.commit(source, sql, { seconds: second }), image: source.image });
  }
  const { signal } = new AbortController();
  await using log = await openJetStreamLog({ config: natsConfig(server.address), set: "app", mode: "write" });
  const records = await readAll(bench.log.log);
  await log.append(
    records.map(({ data }) => data),
    BEFORE_FIRST,
    signal,
  );
  for (const { offset, image } of history) {
    const directory = bench.newTarget();
    const target = parseRestoreTarget(String(offset));
    const { clock } = bench;
    const report = await restore({
      history: new LogHistory(log),
      target,
      directory,
      check: "full",
      force: false,
      dryRun: false,
      clock,
      signal,
    });
    expect(report).toMatchObject({ ok: true, offset });
    expect(Buffer.compare(fs.readFileSync(path.join(directory, "app.db")), image)).toBe(0);
    const byTime = {
      history: new LogHistory(log),
      directory: bench.newTarget(),
      check: "quick",
      force: false,
      dryRun: true,
      clock,
      signal,
    } as const;
    expect(await restore({ ...byTime, target: parseRestoreTarget(report.at) })).toMatchObject({ offset });
  }
});

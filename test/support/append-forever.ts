import { offset } from "../../src/event/positions.ts";
import { openEmbeddedLog } from "../../src/log/embedded-log.ts";
import { LogWriter } from "../../src/log/log-writer.ts";
import { systemClock } from "../../src/runtime/clock.ts";

/** Appends marks to the embedded log in `directory` until it is killed, and prints every offset once it is acknowledged. */
const [directory = "", payload = "40"] = process.argv.slice(2);
const log = await openEmbeddedLog({ directory, set: "app", mode: "write" });
const writer = await LogWriter.open({
  log,
  set: "app",
  identity: { writer: "child", host: "here" },
  known: undefined,
  clock: systemClock,
  signal: new AbortController().signal,
  foreignWriterGraceMs: 60_000,
  takeover: false,
});
console.log(`open ${writer.head}`);
for (;;) {
  await writer.room();
  const name = `${writer.head + 1}-`.padEnd(Number(payload), "x");
  const { acknowledged } = writer.append([{ kind: "mark", name }]);
  void acknowledged.then((at) => process.stdout.write(`${offset(at)}\n`));
  if (writer.head % 20 === 0) await acknowledged;
}

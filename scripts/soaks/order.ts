/** Files and the commits that name them, from several applications: at any offset every row's file is there. */
import fs from "node:fs";
import path from "node:path";

import type { LogEvent } from "../../src/event/kinds.ts";
import type { TreePath } from "../../src/event/tree-path.ts";
import { Deployment } from "../../test/support/deployment.ts";
import { checkOrder, checkRestored, createFilesTable, runFileWriters } from "../../test/support/file-order.ts";
import { filesBelow, LogFold } from "../../test/support/log-fold.ts";
import { Random } from "../../test/support/random.ts";
import { waitFor } from "../../test/support/wait.ts";
import { type Outcome, type Scenario, say } from "./scenario.ts";

const TIMEOUT_MS = 3_600_000;

export const order: Scenario = {
  summary: "applications that write a file and commit its row, delete rows and then files: every offset is in order",
  options: {
    writers: { default: "4", help: "applications" },
    commits: { default: "5000", help: "of each" },
    delay: { default: "2", help: "ms between a file and its commit; 0: full speed" },
    age: { default: "50", help: "a row is deleted when so many commits came after its first" },
    "max-wait": { default: "30s", help: "order.maxWait: commits pass files that take longer" },
    offsets: { default: "300", help: "at which all rows are looked at; those that change are in every one" },
    restores: { default: "30", help: "of them that are restored as well" },
  },
  run: async ({ writers = "", commits = "", delay = "", age = "", offsets = "", restores = "", ...more }) => {
    await using deployment = new Deployment({
      config: `files: [{ path: app/uploads, maxDelete: 100% }]\norder: { maxWait: ${more["max-wait"]} }`,
    });
    const { database } = deployment;
    const root = deployment.pathOf("uploads");
    fs.mkdirSync(root);
    await createFilesTable(database);
    await deployment.start("capture");
    const each = { database, root, commits: Number(commits), delayMs: Number(delay), deleteAge: Number(age) };
    const began = performance.now();
    await runFileWriters(
      Array.from({ length: Number(writers) }, (_, writer) => ({ ...each, writer })),
      TIMEOUT_MS,
    );
    say(`written in ${Math.round(performance.now() - began)} ms`);
    await untilCaptured(deployment);
    say(`captured in ${Math.round(performance.now() - began)} ms`);
    const { capture } = (await deployment.answer("status")) as {
      capture: { overtaken: number; files: { rescans: number }[] };
    };
    const asked = { overtaken: capture.overtaken, rescans: capture.files[0]?.rescans ?? 0 };
    const events = await deployment.events();
    const last = new LogFold();
    for (const event of events) last.apply(event);
    const random = new Random("order");
    const { wrong, wrongWhereConsistent: _, ...figures } = checkOrder(events, random, Number(offsets));
    say(`looked at in ${Math.round(performance.now() - began)} ms`);
    const problems = [...wrong.slice(0, 20), ...missing(last, root)];
    for (let restored = 0; restored < Number(restores); restored += 1) {
      problems.push(...(await restore(deployment, random.pick(events as [LogEvent, ...LogEvent[]]).offset)));
      if (restored % 10 === 9) say(`${restored + 1} restored, ${problems.length} problems`);
    }
    return outcome({ ...figures, ...asked, events: events.length, restores: Number(restores) }, problems);
  },
};

/** A command has a time limit that a machine with other work may exceed. */
async function untilCaptured(deployment: Deployment): Promise<void> {
  const idle = async (): Promise<boolean> => {
    const { dirty, state } = await deployment.treeState("uploads");
    return dirty === 0 && state === "following";
  };
  await waitFor("all files are captured", idle, { timeoutMs: TIMEOUT_MS });
  await deployment.answer("sync");
}

async function restore(deployment: Deployment, at: number): Promise<string[]> {
  const { database, report } = await deployment.restore(String(at));
  if (!fs.existsSync(database)) return report["ok"] === true ? [] : [`at ${at}: nothing was restored`];
  const { wrong } = checkRestored(database, path.join(path.dirname(database), "uploads"));
  fs.rmSync(path.dirname(database), { recursive: true });
  return wrong.map((one) => `restored to ${at}: ${one}`);
}

function missing(fold: LogFold, root: string): string[] {
  const files = filesBelow(root);
  const names = new Set([...files.keys(), ...fold.files.keys()]);
  const isSame = (name: TreePath): boolean =>
    Buffer.from(files.get(name) ?? "none").equals(fold.files.get(name) ?? Buffer.from("not there"));
  return [...names].filter((name) => !isSame(name)).map((name) => `${name} is not what the log says`);
}

function outcome(figures: Readonly<Record<string, number>>, problems: readonly string[]): Outcome {
  return {
    ok: problems.length === 0,
    problems,
    figures,
    rows: Object.entries(figures).map(([title, value]) => [title, String(value)] as const),
  };
}

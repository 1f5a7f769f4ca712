// Runs the one S3 service that all test files of a run share: `s3-cluster-process.ts DIRECTORY OWNER`. Ends with SIGTERM,
// or when the process OWNER is gone, and takes the service and the directory with it.
import fs from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { S3Cluster } from "./s3-cluster.ts";

const [directory = "", owner = ""] = process.argv.slice(2);
const stop = new AbortController();
process.on("SIGTERM", () => stop.abort());

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

const write = (name: string, text: string): void => {
  fs.writeFileSync(path.join(directory, `${name}.new`), text);
  fs.renameSync(path.join(directory, `${name}.new`), path.join(directory, name));
};

try {
  for (const part of ["mon", "osd", "run", "rgw"]) fs.mkdirSync(path.join(directory, part));
  const cluster = await S3Cluster.start(directory);
  try {
    write("endpoint", cluster.endpoint);
    while (!stop.signal.aborted && isAlive(Number(owner))) {
      await sleep(250, undefined, { signal: stop.signal }).catch(() => undefined);
    }
  } finally {
    cluster.stop();
  }
} catch (error) {
  write("failure", error instanceof Error ? (error.stack ?? error.message) : String(error));
  while (!stop.signal.aborted && isAlive(Number(owner))) await sleep(250);
}
fs.rmSync(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });

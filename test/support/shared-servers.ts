import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { waitFor } from "./wait.ts";

/** For the workers: where what they share is started, and by whose life it lives. */
export const SHARED_DIRECTORY = "TIDEMARK_TEST_SHARED";
export const SHARED_OWNER = "TIDEMARK_TEST_OWNER";

/** Of vitest, before all test files. */
export function setup(): void {
  process.env[SHARED_DIRECTORY] = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-shared-"));
  process.env[SHARED_OWNER] = String(process.pid);
}

/** Of vitest, after all test files. */
export async function teardown(): Promise<void> {
  const directory = process.env[SHARED_DIRECTORY] ?? "";
  const pidFile = path.join(directory, "s3.pid");
  if (fs.existsSync(pidFile)) {
    process.kill(Number(fs.readFileSync(pidFile, "utf8")), "SIGTERM");
    await waitFor("the end of the S3 service", () => !fs.existsSync(path.join(directory, "s3")));
  }
  fs.rmSync(directory, { recursive: true, force: true });
}

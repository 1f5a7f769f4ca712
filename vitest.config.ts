import { join } from "node:path";
import { defineConfig } from "vitest/config";

import { LongestFirst } from "./test/support/longest-first.ts";

// Tests start servers and other processes and wait for them: with three files at a time two cores are hardly ever idle
// (515 s, with two 648 s). Nothing is tried twice.
export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    pool: "forks",
    maxWorkers: 3,
    sequence: { sequencer: LongestFirst },
    // Tests that mostly wait, for processes to start and to notice, are test.concurrent: so many of a file at a time.
    maxConcurrency: 3,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    globalSetup: ["test/support/shared-servers.ts"],
    retry: 0,
    allowOnly: false,
    passWithNoTests: false,
    // Hundreds of processes of ours are started: without it each of them spends half a second of processor time on
    // making JavaScript of the same files (0.50 s before, 0.23 s after).
    env: { NODE_COMPILE_CACHE: join(import.meta.dirname, "node_modules/.cache/node-compile") },
  },
});

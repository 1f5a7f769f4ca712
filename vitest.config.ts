import { defineConfig } from "vitest/config";

// Tests start servers and other processes: two files at a time is what two cores bear, and nothing is tried twice.
export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    retry: 0,
    allowOnly: false,
    passWithNoTests: false,
  },
});

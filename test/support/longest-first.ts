import fs from "node:fs";
import path from "node:path";

import { BaseSequencer, type TestSpecification } from "vitest/node";

const ROOT = path.resolve(import.meta.dirname, "../..");

/** Files that take ten seconds and more, the longest first. */
const LONGEST = [
  "e2e/torture-nats",
  "e2e/torture-embedded",
  "fault/crash-points",
  "fault/log-away",
  "failover/promote",
  "failover/switchover",
  "capture/lock-byte-page",
  "e2e/file-trees",
  "log/jetstream-cluster",
  "contract/object-store-s3",
  "capture/many-databases",
  "scripts/quickstart",
  "e2e/encryption",
  "failover/new-log",
  "failover/rejoin",
  "replica/hot-readers",
  "e2e/file-order",
  "fault/phantom-commit",
  "fault/file-side-killed",
  "restore/restore",
  "log/jetstream-login-cli",
  "fault/crash-points-rare",
  "restore/restore-kill",
  "capture/files/unannounced",
  "e2e/file-trees-hindered",
  "e2e/idle",
  "fault/power-cut",
  "contract/change-log-jetstream",
  "log/jetstream-faults",
  "capture/files/order",
  "capture/database-shapes",
  "capture/scrub",
  "fault/random-life",
].map(fileOf);

/** Applications at full speed whose WAL is measured: last, beside the shortest, because whoever has no processor cannot seal. */
const LAST = ["capture/busy-writers"].map(fileOf);

/**
 * Begins with the files that take longest, so that at the end no worker has a long one to itself while the others have
 * none. Vitest knows only what it has run before, and in a fresh checkout that is nothing.
 */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const gone = [...LONGEST, ...LAST].filter((file) => !fs.existsSync(file));
    if (gone.length > 0) throw new Error(`test/support/longest-first.ts names what is not there: ${gone.join(", ")}`);
    const rankOf = ({ moduleId }: TestSpecification): number => {
      const rank = LONGEST.indexOf(moduleId);
      if (LAST.includes(moduleId)) return Infinity;
      return rank < 0 ? LONGEST.length : rank;
    };
    return (await super.sort(files)).toSorted((a, b) => (rankOf(a) === rankOf(b) ? 0 : rankOf(a) - rankOf(b)));
  }
}

function fileOf(name: string): string {
  return path.join(ROOT, "test", `${name}.test.ts`);
}

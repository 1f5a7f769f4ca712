import fs from "node:fs";

import { type CheckMode, type CheckResult, DatabaseChecker } from "./check-database.ts";
import type { PlannedDatabase } from "./plan.ts";
import { readBack } from "./read-back.ts";
import type { Finished } from "./report.ts";

export interface ProveOptions {
  readonly seed: bigint;
  readonly check: CheckMode;
  readonly signal: AbortSignal;
  /** Read back. */
  readonly onBytes: (bytes: number) => void;
  /** So many databases were checked by SQLite. */
  readonly onChecked: (databases: number) => void;
}

/**
 * Reads finished files back, and meanwhile has SQLite check them in another process, which takes as long. What that
 * touched after all is read once more: nothing touches a file after it was proved.
 *
 * @throws CHECKSUM_MISMATCH, INTERRUPTED
 */
export async function proveDatabases(
  files: ReadonlyMap<PlannedDatabase, string>,
  options: ProveOptions,
): Promise<Map<PlannedDatabase, Finished>> {
  options.onChecked(0);
  if (files.size === 0) return new Map();
  using checker = new DatabaseChecker(options.signal);
  const before = new Map([...files].map(([database, file]) => [database, touched(file)]));
  let checkedFiles = 0;
  let isReadBack = false;
  const onChecked = (): void => {
    checkedFiles += 1;
    if (isReadBack) options.onChecked(checkedFiles);
  };
  const checking = checkAll(files, { checker, mode: options.check, onChecked });
  // When reading back fails nobody waits for it.
  checking.catch(() => undefined);
  const proofs = new Map<PlannedDatabase, string>();
  for (const [database, file] of files) proofs.set(database, await readBack(file, database, options));
  isReadBack = true;
  options.onChecked(checkedFiles);
  const checks = await checking;
  const finished = new Map<PlannedDatabase, Finished>();
  for (const [database, { file, check }] of checks) {
    const proof = touched(file) === before.get(database) ? proofs.get(database) : undefined;
    if (proof === undefined) options.onBytes(-database.sizePages * database.pageSize);
    finished.set(database, { sha256: proof ?? (await readBack(file, database, options)), check });
  }
  return finished;
}

interface Checking {
  readonly checker: DatabaseChecker;
  readonly mode: CheckMode;
  readonly onChecked: () => void;
}

async function checkAll(
  files: ReadonlyMap<PlannedDatabase, string>,
  { checker, mode, onChecked }: Checking,
): Promise<ReadonlyMap<PlannedDatabase, { readonly file: string; readonly check: CheckResult }>> {
  const checks = new Map<PlannedDatabase, { file: string; check: CheckResult }>();
  for (const [database, file] of files) {
    checks.set(database, { file, check: await checker.check({ file, mode }) });
    onChecked();
  }
  return checks;
}

/** Another text when somebody wrote to the file since. */
function touched(file: string): string {
  const { ino, size, mtimeNs, ctimeNs } = fs.statSync(file, { bigint: true });
  return `${ino} ${size} ${mtimeNs} ${ctimeNs}`;
}

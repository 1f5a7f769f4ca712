import { HelperProcess } from "./helper-process.ts";

export type CheckMode = "full" | "quick";

export interface CheckRequest {
  readonly file: string;
  readonly mode: CheckMode;
}

export interface CheckResult {
  /** false: SQLite found damage. */
  readonly sound: boolean;
  /** `ok`, what was found, or why it could not be checked. */
  readonly integrity: string;
  /** `ok`, `N violations`, or why it could not be checked. */
  readonly foreignKeys: string;
}

/** SQLite's own opinion of database files. One process serves all files of a restore. */
export class DatabaseChecker implements Disposable {
  readonly #process: HelperProcess<CheckRequest, CheckResult>;

  constructor(signal: AbortSignal) {
    this.#process = new HelperProcess("check-process", signal);
  }

  /**
   * integrity_check (full) or quick_check, and foreign_key_check. Leaves no -wal or -shm behind.
   * @throws INTERRUPTED
   */
  check(request: CheckRequest): Promise<CheckResult> {
    return this.#process.ask(request, `the check of ${request.file}`);
  }

  [Symbol.dispose](): void {
    this.#process[Symbol.dispose]();
  }
}

import fs from "node:fs";
import path from "node:path";
import { type Command, Option } from "commander";

import { configError } from "../config/config-error.ts";
import { formatSize, parseShare } from "../config/units.ts";
import type { Repository } from "../repository/repository.ts";
import type { VerifyJournal } from "../repository/verify.ts";
import type { VerifyReport } from "../repository/verify-report.ts";
import { cacheRoot } from "../runtime/cache-root.ts";
import { EXIT, TidemarkError } from "../runtime/errors.ts";
import { type Cli, oneShot } from "./cli.ts";
import { progressLine } from "./progress-line.ts";
import { type SetOptions, setCommand, settingsFor } from "./set-options.ts";

/** Read of a repository when nothing else is said. */
const DEFAULT_SHARE = 0.1;

interface VerifyFlags extends SetOptions {
  readonly sample?: number;
  readonly full?: boolean;
}

interface Verified extends VerifyReport {
  readonly location: string;
}

export function verifyCommand(cli: Cli): Command {
  return setCommand({
    name: "verify",
    summary: "prove that the repository holds what a restore needs",
    description:
      "Looks whether everything that bases and segments refer to is there, and reads a sample of the stored data, or all of it, to " +
      "prove it. Changes nothing. A --full run that was interrupted goes on where it was. Ends with 4 when something is wrong.",
    examples: [
      "tidemark verify --repository /mnt/backup",
      "tidemark verify --sample 25% -c tidemark.yml",
      "tidemark verify --full --json --repository /mnt/backup",
    ],
  })
    .addOption(new Option("--sample <share>", "of the stored data that is read (default: 10%)").argParser(shareOption))
    .addOption(new Option("--full", "read all of it").conflicts("sample"))
    .action((options: VerifyFlags) => oneShot(cli, () => verify(cli, options)));
}

function shareOption(text: string): number {
  const share = parseShare(text);
  if (share !== undefined) return share;
  throw new TidemarkError("USAGE", `${JSON.stringify(text)} is no share`, { hint: "Write for instance --sample 10%." });
}

async function verify(cli: Cli, options: VerifyFlags): Promise<void> {
  const settings = await settingsFor(cli, "client", options);
  if (settings.repositories.length === 0) {
    throw configError(
      "tidemark verify does not know where the repository is",
      "Give --repository DIR, or repository: in tidemark.yml.",
    );
  }
  const share = options.full ? 1 : (options.sample ?? DEFAULT_SHARE);
  const { readRepositories } = await import("../compose/repositories.ts");
  const reports: Verified[] = [];
  await readRepositories(settings, cli, async (repository) => {
    reports.push({ location: repository.location, ...(await verifyOne(cli, repository, share)) });
  });
  const ok = reports.every(({ problems }) => problems.length === 0);
  if (!ok) cli.exitCode = EXIT.verification;
  if (options.json) return cli.print(JSON.stringify({ ok, repositories: reports }));
  for (const report of reports) for (const line of textOf(report)) await cli.print(line);
}

async function verifyOne(cli: Cli, repository: Repository, share: number): Promise<VerifyReport> {
  const { verifyRepository } = await import("../repository/verify.ts");
  using progress = progressLine(() => cli.clock.monotonic());
  const journal = share === 1 ? new FileJournal(cli, repository.config.id) : undefined;
  const onProgress = (done: number, total: number): void =>
    progress.show({ phase: "proving", done, total, unit: "bytes" });
  const report = await verifyRepository(repository, {
    share,
    random: Math.random,
    journal,
    signal: cli.signal,
    onProgress,
  });
  journal?.end();
  return report;
}

function* textOf({ location, problems, warnings, ...figures }: Verified): Generator<string> {
  const { objects, bytes, checkedBytes, bases, segments } = figures;
  const counts = `${objects} objects, ${formatSize(bytes)}; ${bases} bases, ${segments} segments; ${formatSize(checkedBytes)} read and proved`;
  yield `${problems.length === 0 ? "ok  " : "FAIL"}  ${location}: ${counts}`;
  for (const { object, problem, affects } of problems) {
    yield `FAIL  ${object}: ${problem}`;
    for (const what of affects) yield `      needed by ${what}`;
  }
  for (const warning of warnings) yield `warn  ${warning}`;
}

/** Objects that a run has proved, a line each, until one has come to its end. One of another day does not count. */
class FileJournal implements VerifyJournal {
  readonly #file: string;
  readonly #proved: ReadonlySet<string>;

  constructor(cli: Cli, repositoryId: string) {
    const directory = cacheRoot(cli.environment);
    fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
    this.#file = path.join(directory, `verify-${repositoryId}`);
    this.#proved = this.#read(cli.clock.now());
    if (this.#proved.size > 0)
      cli.note(`going on with a run that was interrupted: ${this.#proved.size} objects were proved`);
  }

  has(object: string): boolean {
    return this.#proved.has(object);
  }

  add(object: string): void {
    fs.appendFileSync(this.#file, `${object}\n`, { mode: 0o600 });
  }

  end(): void {
    fs.rmSync(this.#file, { force: true });
  }

  #read(nowMs: number): Set<string> {
    const found = fs.statSync(this.#file, { throwIfNoEntry: false });
    if (!found) return new Set();
    if (nowMs - found.mtimeMs > JOURNAL_MS) {
      fs.rmSync(this.#file, { force: true });
      return new Set();
    }
    // The last line may be half of one.
    return new Set(fs.readFileSync(this.#file, "utf8").split("\n").slice(0, -1));
  }
}

const JOURNAL_MS = 24 * 3_600_000;

/** See USAGE. Started by scripts/quickstart, which has set up Node and the packages. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { inspect } from "node:util";
import { showOwn } from "./quickstart-own.ts";
import { showSample } from "./quickstart-sample.ts";
import { QuickstartFailure, type Session } from "./quickstart-session.ts";
import { openView, type View } from "./quickstart-view.ts";

const USAGE = `Usage: scripts/quickstart [DATABASE] [DIRECTORY]

Runs Tidemark's main job for real, with the embedded log, and proves what it did:
  - an application writes files and commits rows that tell of them to a SQLite database (a sample shop, or DATABASE,
    DIRECTORY and your own application);
  - tidemark run keeps a hot standby, while another process reads it and checks what it sees;
  - tidemark restore brings back the state of ten seconds ago, which is then compared row by row and file by file.

DATABASE and DIRECTORY are never written to; DATABASE must be in WAL mode. Takes under a minute (two at most) and ends by itself; Ctrl-C stops it
at any time. Everything lies in one temporary directory (below $TMPDIR), removed at the end. Exit code 0 when every proof held.
`;

const LIMIT_MS = 115_000;
const INTERRUPTED = 130;

class Interrupted extends Error {}

function openSession([database, files]: readonly string[], view: View): Session & Disposable {
  const directory = mkdtempSync(join(tmpdir(), "tidemark-quickstart-"));
  const path = database === undefined ? join(directory, "shop.db") : resolve(database);
  const tree = database === undefined ? join(directory, "receipts") : files === undefined ? undefined : resolve(files);
  const controller = new AbortController();
  const abort = (reason: Error): void => controller.abort(reason);
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.on(signal, () => abort(new Interrupted(signal)));
  process.stdout.on("error", () => abort(new Interrupted("output closed")));
  const limit = setTimeout(() => abort(new QuickstartFailure(tooLong(database))), LIMIT_MS);
  return {
    directory,
    database: path,
    standbyDatabase: join(directory, "standby", basename(path)),
    files: tree,
    standbyFiles: tree === undefined ? undefined : join(directory, "standby", basename(tree)),
    view,
    signal: controller.signal,
    abort,
    [Symbol.dispose]: () => {
      clearTimeout(limit);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function tooLong(database: string | undefined): string {
  const advice =
    database === undefined ? "The machine may be very busy." : "For a database of this size use tidemark run itself.";
  return `not done after ${LIMIT_MS / 1_000} s. ${advice}`;
}

async function main(args: readonly string[]): Promise<number> {
  if (args.includes("--help") || args.includes("-h")) {
    process.stdout.write(USAGE);
    return 0;
  }
  const unexpected = args.find((arg) => arg.startsWith("-")) ?? args[2];
  if (unexpected !== undefined) {
    process.stderr.write(`quickstart: unexpected ${unexpected}\n\n${USAGE}`);
    return 2;
  }
  return showOnce(args);
}

async function showOnce(args: readonly string[]): Promise<number> {
  const view = openView(process.stdout);
  let failure: unknown;
  {
    using session = openSession(args, view);
    try {
      await (args.length === 0 ? showSample(session) : showOwn(session));
    } catch (error) {
      failure = session.signal.aborted ? session.signal.reason : error;
    }
  }
  if (failure !== undefined) return explain(failure);
  view.say("\nAll of it held. Everything this run made is removed again. Next: README.md, “Your own application”.");
  return 0;
}

function explain(failure: unknown): number {
  if (failure instanceof Interrupted) {
    process.stderr.write("\nquickstart: stopped; its processes have ended and its directory is removed.\n");
    return INTERRUPTED;
  }
  const words = failure instanceof QuickstartFailure ? failure.message : inspect(failure);
  process.stderr.write(`\nquickstart: FAILED: ${words}\n`);
  return 1;
}

process.exitCode = await main(process.argv.slice(2));

import fs from "node:fs";
import path from "node:path";

import { STATE_DIRECTORY } from "../../replica/standby-paths.ts";
import { makeDirectory, syncDirectory } from "../../runtime/durable-directory.ts";
import { TidemarkError } from "../../runtime/errors.ts";
import { readIfThere, replaceFile } from "../../runtime/replace-file.ts";
import type { FormerPrimary } from "./former-primary.ts";
import type { DivergedDatabase, DivergedTree, RejoinReport } from "./report.ts";

const RECORD_FILE = "record.json";

interface Content {
  readonly former: FormerPrimary;
  /** Offset to which the databases and trees are brought. */
  readonly offset: number;
  /** Where what diverged is saved; null as long as nothing did. */
  readonly directory: string | null;
  /** By name, with the checksum of the whole database as it was saved. */
  readonly saved: Readonly<Record<string, { readonly found: DivergedDatabase; readonly checksum: string }>>;
  /** Databases that have left the application's place. */
  readonly moved: readonly string[];
  /** Databases that are where the standby wants them, as of the offset, with the pages that were written for it. */
  readonly placed: Readonly<Record<string, number>>;
  readonly savedTrees: readonly DivergedTree[];
  /** Trees whose files leave the application's place. */
  readonly movedTrees: readonly string[];
  /** Bytes of the trees that came out of the log. */
  readonly treeBytes: number;
  /** On the user's word the databases are kept whole, and the standby is built anew. */
  readonly anew: boolean;
  /** Once the standby's state is recorded: what is left is to lift the fence. */
  readonly report: Omit<RejoinReport, "durationMs"> | null;
}

/** `<standby>/.tidemark/rejoin/`: how far a former primary is on its way to a standby. While it is there nothing else works on the standby. */
export class RejoinRecord {
  readonly directory: string;
  #content: Content;

  static begin(standby: string, { former, offset }: Pick<Content, "former" | "offset">): RejoinRecord {
    const directory = directoryOf(standby);
    makeDirectory(directory, { mode: 0o700 });
    const record = new RejoinRecord(directory, { ...NOTHING_YET, former, offset });
    record.note({});
    return record;
  }

  /** Undefined: none was begun, or it has come to its end. */
  static read(standby: string): RejoinRecord | undefined {
    const directory = directoryOf(standby);
    const text = readIfThere(path.join(directory, RECORD_FILE));
    return text === undefined ? undefined : new RejoinRecord(directory, JSON.parse(text) as Content);
  }

  private constructor(directory: string, content: Content) {
    this.directory = directory;
    this.#content = content;
  }

  get now(): Content {
    return this.#content;
  }

  /** On disk when it returns. */
  note(change: Partial<Content>): void {
    this.#content = { ...this.#content, ...change };
    replaceFile(path.join(this.directory, RECORD_FILE), `${JSON.stringify(this.#content, null, 2)}\n`, { mode: 0o600 });
  }

  remove(): void {
    fs.rmSync(this.directory, { recursive: true, force: true });
    syncDirectory(path.dirname(this.directory));
  }
}

/** @throws REJOIN_UNFINISHED */
export function requireNoRejoin(standby: string): void {
  if (!RejoinRecord.read(standby)) return;
  throw new TidemarkError(
    "REJOIN_UNFINISHED",
    `${standby} is half-way from a former primary's databases to a standby's: \`tidemark rejoin\` was begun here and not finished`,
    { hint: "Run `tidemark rejoin` again: it goes on where it was." },
  );
}

function directoryOf(standby: string): string {
  return path.join(standby, STATE_DIRECTORY, "rejoin");
}

const NOTHING_YET = {
  directory: null,
  saved: {},
  moved: [],
  placed: {},
  savedTrees: [],
  movedTrees: [],
  treeBytes: 0,
  anew: false,
  report: null,
} as const;

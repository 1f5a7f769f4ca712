import { EXPIRED_PREFIX } from "./object-names.ts";
import { decodeExpired } from "./notes.ts";
import type { Repository } from "./repository.ts";
import { Survey } from "./survey.ts";
import { verifyBases } from "./verify-bases.ts";
import { verifyNotes } from "./verify-notes.ts";
import { verifyPacks } from "./verify-packs.ts";
import { Findings, isDamage, type VerifyReport } from "./verify-report.ts";
import { verifySegments } from "./verify-segments.ts";

/** What was proved already by a run that was interrupted. */
export interface VerifyJournal {
  has(object: string): boolean;
  add(object: string): void;
}

export interface VerifyOptions {
  /** Of the packs and segments whose bytes are read, 0 to 1; structure is looked at always. */
  readonly share: number;
  /** 0 <= x < 1: chooses. */
  readonly random: () => number;
  readonly journal?: VerifyJournal | undefined;
  readonly signal: AbortSignal;
  /** Bytes read, of about how many. */
  readonly onProgress: (done: number, total: number) => void;
}

export interface VerifyContext {
  readonly repository: Repository;
  readonly findings: Findings;
  readonly signal: AbortSignal;
  /** Objects that expire has marked: nothing refers to them any more, and they may go at any moment. */
  readonly marked: ReadonlySet<string>;
  /** Whether the bytes of this object are to be read. */
  chosen(object: string): boolean;
  /** They were. */
  checked(object: string, bytes: number): void;
}

/**
 * Whether everything that a restore may need is there and as it was stored. Changes nothing. Packs first: what bases and
 * segments need of those that are damaged is said with them.
 *
 * @throws what the store throws, KEY_MISSING, KEY_WRONG, REPOSITORY_VERSION
 */
export async function verifyRepository(repository: Repository, options: VerifyOptions): Promise<VerifyReport> {
  const { store } = repository.objects;
  const { signal } = options;
  const survey = await Survey.of(store, signal);
  await repository.blobs.refresh(signal);
  const run = new VerifyRun(repository, options, { survey, marked: await markedNames(repository, survey, signal) });
  const bad = await verifyPacks(run, survey);
  const bases = await verifyBases(run, bad);
  const segments = await verifySegments(run, { bad, bases });
  await verifyNotes(run, survey);
  const { problems, warnings } = run.findings;
  return {
    objects: survey.count,
    bytes: survey.bytes,
    checkedBytes: run.checkedBytes,
    bases: bases.length,
    segments,
    problems,
    warnings,
  };
}

async function markedNames(repository: Repository, survey: Survey, signal: AbortSignal): Promise<ReadonlySet<string>> {
  const marked = new Set<string>();
  for (const name of survey.names(EXPIRED_PREFIX)) {
    try {
      const note = await repository.objects.get({ kind: "expired", name }, signal, decodeExpired);
      for (const one of note.names) marked.add(one);
    } catch (error) {
      if (!isDamage(error)) throw error;
    }
  }
  return marked;
}

class VerifyRun implements VerifyContext {
  readonly repository: Repository;
  readonly findings = new Findings();
  readonly signal: AbortSignal;
  readonly marked: ReadonlySet<string>;
  readonly #options: VerifyOptions;
  readonly #totalBytes: number;
  checkedBytes = 0;

  constructor(repository: Repository, options: VerifyOptions, known: { survey: Survey; marked: ReadonlySet<string> }) {
    this.repository = repository;
    this.signal = options.signal;
    this.marked = known.marked;
    this.#options = options;
    this.#totalBytes = Math.round(known.survey.bytes * options.share);
  }

  chosen(object: string): boolean {
    this.signal.throwIfAborted();
    const { share, random, journal } = this.#options;
    return !journal?.has(object) && (share >= 1 || random() < share);
  }

  checked(object: string, bytes: number): void {
    this.checkedBytes += bytes;
    this.#options.journal?.add(object);
    this.#options.onProgress(Math.min(this.checkedBytes, this.#totalBytes), this.#totalBytes);
  }
}

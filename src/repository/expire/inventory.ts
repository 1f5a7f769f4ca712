import { hasCode } from "../../runtime/errors.ts";
import type { BaseInfo } from "../base.ts";
import { decodeExpired } from "../notes.ts";
import {
  BASE_PREFIX,
  EXPIRED_PREFIX,
  parseBaseName,
  parseSegmentName,
  parseVerifiedName,
  SEGMENT_PREFIX,
  VERIFIED_PREFIX,
} from "../object-names.ts";
import type { Repository } from "../repository.ts";
import type { RetainedBase } from "../retention.ts";
import type { SegmentInfo } from "../segment.ts";
import { Survey } from "../survey.ts";

/** A base that is there, marked or not. */
export interface PresentBase extends RetainedBase {
  readonly info: BaseInfo;
  /** Notes that it was verified, by their names. */
  readonly notes: readonly string[];
}

/** An object of expired/. */
export interface Mark {
  readonly name: string;
  readonly atMs: number;
  readonly names: ReadonlySet<string>;
}

/** What a repository holds, by the names of its objects and what bases and marks say. */
export interface Inventory {
  readonly survey: Survey;
  readonly bases: readonly PresentBase[];
  readonly segments: readonly SegmentInfo[];
  /** Notes about bases that are not there. */
  readonly orphans: readonly string[];
  readonly marks: readonly Mark[];
  /** Objects of expired/ that cannot be read. */
  readonly damagedMarks: readonly string[];
  /** Named by any mark. */
  readonly marked: ReadonlySet<string>;
}

/** @throws OBJECT_CORRUPT: a base that stays cannot be read; what the store throws */
export async function takeInventory(repository: Repository, signal: AbortSignal): Promise<Inventory> {
  const survey = await Survey.of(repository.objects.store, signal);
  await repository.blobs.refresh(signal);
  const { marks, damagedMarks } = await readMarks(repository, survey, signal);
  const marked = new Set(marks.flatMap(({ names }) => [...names]));
  const notes = notesByBase(survey);
  const bases = await readBases(repository, { survey, marked, notes }, signal);
  const segments = survey.names(SEGMENT_PREFIX).flatMap((name) => {
    const parsed = parseSegmentName(name);
    return parsed ? [{ name, bytes: survey.bytesOf(name) ?? 0, ...parsed }] : [];
  });
  const orphans = [...notes].flatMap(([uuid, names]) => (bases.some(({ id }) => id === uuid) ? [] : names));
  return { survey, bases, segments, orphans, marks, damagedMarks, marked };
}

async function readMarks(
  { objects }: Repository,
  survey: Survey,
  signal: AbortSignal,
): Promise<Pick<Inventory, "marks" | "damagedMarks">> {
  const marks: Mark[] = [];
  const damagedMarks: string[] = [];
  for (const name of survey.names(EXPIRED_PREFIX)) {
    try {
      const { atMs, names } = await objects.get({ kind: "expired", name }, signal, decodeExpired);
      marks.push({ name, atMs, names: new Set(names) });
    } catch (error) {
      if (hasCode(error, "OBJECT_CORRUPT")) damagedMarks.push(name);
      else if (!hasCode(error, "OBJECT_MISSING")) throw error;
    }
  }
  return { marks, damagedMarks };
}

function notesByBase(survey: Survey): Map<string, string[]> {
  const notes = new Map<string, string[]>();
  for (const name of survey.names(VERIFIED_PREFIX)) {
    const uuid = parseVerifiedName(name);
    if (uuid !== undefined) notes.set(uuid, [...(notes.get(uuid) ?? []), name]);
  }
  return notes;
}

interface Known {
  readonly survey: Survey;
  readonly marked: ReadonlySet<string>;
  readonly notes: ReadonlyMap<string, readonly string[]>;
}

async function readBases(
  { bases: store }: Repository,
  { survey, marked, notes }: Known,
  signal: AbortSignal,
): Promise<PresentBase[]> {
  const verified = await store.verified(signal);
  const bases: PresentBase[] = [];
  for (const name of survey.names(BASE_PREFIX)) {
    const parsed = parseBaseName(name);
    if (!parsed) continue;
    const info = { name, bytes: survey.bytesOf(name) ?? 0, ...parsed };
    try {
      const { offset, timeMs } = await store.read(info, signal);
      const id = info.uuid;
      bases.push({ id, offset, timeMs, verified: verified.has(id), info, notes: notes.get(id) ?? [] });
    } catch (error) {
      // One that is marked goes, whatever is in it, and needs nothing.
      if (!hasCode(error, "OBJECT_CORRUPT", "OBJECT_MISSING") || !marked.has(name)) throw error;
    }
  }
  return bases;
}

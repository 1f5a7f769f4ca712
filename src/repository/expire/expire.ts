import { randomUUID } from "node:crypto";

import type { KeepConfig } from "../../config/config.ts";
import type { Clock } from "../../runtime/clock.ts";
import { crashPoint } from "../../runtime/crash-point.ts";
import { TidemarkError } from "../../runtime/errors.ts";
import type { BlobUse } from "../blob-use.ts";
import { encodeExpired } from "../notes.ts";
import { EXPIRED_PREFIX } from "../object-names.ts";
import { blobName } from "../pack.ts";
import { INDEX_PREFIX, PACK_PREFIX } from "../refresh-index.ts";
import type { Repository } from "../repository.ts";
import { copyPacks } from "./copy-packs.ts";
import { decide, type Decision } from "./decide.ts";
import { GRACE_MS } from "./grace.ts";
import { type Inventory, type Mark, takeInventory } from "./inventory.ts";
import { type PackPlan, planPacks } from "./pack-plan.ts";
import { gatherReferences, type Referring } from "./references.ts";
import { Relister } from "./relist.ts";
import { Remover } from "./remover.ts";
import { type ExpireReport, reportOf } from "./report.ts";

/** A mark of which nothing is left stays so long: somebody may see an old list of index objects. */
const FINISHED_MS = 2 * GRACE_MS;
/** In one object of expired/. */
const NAMES_OF_A_MARK = 50_000;

export interface ExpireOptions {
  readonly rules: KeepConfig;
  /** Otherwise nothing is changed. */
  readonly confirm: boolean;
  /** Packs and index objects may be written anew to save room: not where the old ones are kept under a lock. */
  readonly rewrites: boolean;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/**
 * Applies retention. First what was marked by earlier runs, long enough ago, is removed, as far as nothing refers to it by
 * now; then what the rules do not keep is marked. In between a day passes, in which nothing new refers to what is marked.
 *
 * @throws REPOSITORY_LOCKED (somebody makes a base, restores, or expires), OBJECT_CORRUPT and OBJECT_MISSING (what stays is
 * damaged: nothing more is changed), what the store throws
 */
export async function expireRepository(repository: Repository, options: ExpireOptions): Promise<ExpireReport> {
  if (!options.confirm) return expireAlone(repository, options);
  await using lock = await repository.lock("exclusive", options.signal);
  try {
    return await expireAlone(repository, { ...options, signal: AbortSignal.any([options.signal, lock.lost]) });
  } catch (error) {
    throw lock.lost.aborted && !options.signal.aborted ? lostLock(repository.location) : error;
  }
}

async function expireAlone(repository: Repository, options: ExpireOptions): Promise<ExpireReport> {
  const inventory = await takeInventory(repository, options.signal);
  using use = repository.blobs.use();
  const run = new ExpireRun(repository, options, { inventory, use, decision: decide(inventory, options.rules) });
  return await run.run();
}

interface Known {
  readonly inventory: Inventory;
  readonly decision: Decision;
  readonly use: BlobUse;
}

class ExpireRun {
  readonly #repository: Repository;
  readonly #options: ExpireOptions;
  readonly #known: Known;
  readonly #remover: Remover;
  readonly #nowMs: number;
  readonly #due: ReadonlySet<string>;

  constructor(repository: Repository, options: ExpireOptions, known: Known) {
    const { survey, marks } = known.inventory;
    this.#repository = repository;
    this.#options = options;
    this.#known = known;
    this.#remover = new Remover({ repository, survey, ...options });
    this.#nowMs = options.clock.now();
    const due = marks.filter(({ atMs }) => this.#nowMs - atMs >= GRACE_MS);
    this.#due = new Set(due.flatMap(({ names }) => [...names]));
  }

  async run(): Promise<ExpireReport> {
    const { inventory, decision, use } = this.#known;
    await this.#repository.blobs.search(this.#options.signal);
    await this.#removeReferring();
    await this.#gather();
    const uses = await use.packs(inventory.survey.names(PACK_PREFIX));
    if (use.missing) throw missingBlob(this.#repository.location, use.missing);
    const plan = planPacks({
      uses,
      there: inventory.survey.names(PACK_PREFIX),
      isMarked: (name) => inventory.marked.has(name),
      isDue: (name) => this.#due.has(name),
      copies: this.#options.rewrites,
    });
    const relister = new Relister({ repository: this.#repository, use, ...inventory, ...this.#options });
    await this.#removeReferred(plan, relister);
    await relister.name(plan.staying.map(({ name }) => name));
    const copied = await this.#copy(plan);
    const marked = await this.#mark({ ...plan, copied }, relister);
    const unmarked = await this.#settleMarks([...decision.kept, ...plan.neededAgain], relister);
    if (this.#options.confirm) await this.#repository.blobs.refresh(this.#options.signal);
    return reportOf({
      ...this.#known,
      plan,
      copied,
      remover: this.#remover,
      confirmed: this.#options.confirm,
      nowMs: this.#nowMs,
      marked,
      unmarked,
    });
  }

  /** Manifests before what they refer to: whatever is listed can be restored. */
  async #removeReferring(): Promise<void> {
    const { bases, notes, segments } = this.#known.decision.expired;
    const due = (names: readonly string[]): string[] => names.filter((name) => this.#due.has(name));
    await this.#remover.remove(due(bases), "expire: base removed");
    await this.#remover.remove(due(notes), "expire: base removed");
    await this.#remover.remove(due(segments), "expire: segment removed");
  }

  /** What stays, then what is on its way out and still there: it may be kept again by other rules. */
  async #gather(): Promise<void> {
    const { inventory, decision, use } = this.#known;
    const { signal } = this.#options;
    const infos = ({ bases, segments }: Pick<Inventory, "bases" | "segments">): Referring => {
      return { bases: bases.map(({ info }) => info), segments };
    };
    const { keptBases, keptSegments } = decision;
    const kept = infos({ bases: keptBases, segments: keptSegments });
    await gatherReferences(this.#repository, kept, { use, kept: true, signal });
    const isGoing = (name: string): boolean => !decision.kept.has(name) && !this.#remover.removed.has(name);
    const going = infos({
      bases: inventory.bases.filter(({ info }) => isGoing(info.name)),
      segments: inventory.segments.filter(({ name }) => isGoing(name)),
    });
    await gatherReferences(this.#repository, going, { use, kept: false, signal });
  }

  /** Index objects before packs: a pack that is gone is named by none. */
  async #removeReferred({ dead }: PackPlan, relister: Relister): Promise<void> {
    const { survey } = this.#known.inventory;
    const going = new Set(dead);
    const indexes = survey.names(INDEX_PREFIX).filter((name) => this.#due.has(name));
    await relister.relist(indexes, (pack) => going.has(pack));
    await this.#remover.remove(indexes, "expire: index removed");
    await this.#remover.remove(dead, "expire: pack removed");
  }

  async #copy({ copied }: PackPlan): Promise<PackPlan["copied"]> {
    if (copied.length === 0 || !this.#options.confirm) return copied;
    return copyPacks(this.#repository, copied, { use: this.#known.use, signal: this.#options.signal });
  }

  /** What the rules do not keep, and what nothing needs then. New index objects first: there is always one for what stays. */
  async #mark({ dead, unneeded, copied }: PackPlan, relister: Relister): Promise<string[]> {
    const { bases, notes, segments } = this.#known.decision.expired;
    const { marked } = this.#known.inventory;
    const packs = [...unneeded, ...copied.map(({ name }) => name)];
    const going = new Set([...packs, ...dead]);
    const indexes = [...new Set([...relister.naming(going), ...(this.#options.rewrites ? relister.manySmall() : [])])];
    await relister.relist(indexes, (pack) => going.has(pack));
    const names = [...bases, ...notes, ...segments, ...indexes, ...packs];
    const fresh = names.filter((name) => !marked.has(name) && !this.#remover.removed.has(name));
    for (let at = 0; at < fresh.length; at += NAMES_OF_A_MARK) {
      await this.#putMark({ atMs: this.#nowMs, names: fresh.slice(at, at + NAMES_OF_A_MARK) });
    }
    return fresh;
  }

  /** What is needed again is named by a mark no more; a mark of which nothing was left for long goes. Returns what was named. */
  async #settleMarks(needed: readonly string[], relister: Relister): Promise<Set<string>> {
    const { marks, damagedMarks } = this.#known.inventory;
    const neededNames = new Set(needed);
    const unmarked = new Set<string>();
    const over: string[] = [...damagedMarks];
    for (const mark of marks) {
      const again = [...mark.names].filter((name) => neededNames.has(name));
      for (const name of again) unmarked.add(name);
      const rest = [...mark.names].filter((name) => !neededNames.has(name));
      if (again.length === 0 && !this.#isFinished(mark, relister)) continue;
      if (again.length > 0 && rest.length > 0) await this.#putMark({ atMs: mark.atMs, names: rest });
      over.push(mark.name);
    }
    await this.#remover.remove(over, "expire: unmarked");
    return unmarked;
  }

  #isFinished({ atMs, names }: Mark, relister: Relister): boolean {
    const { survey } = this.#known.inventory;
    if (this.#nowMs - atMs < FINISHED_MS) return false;
    for (const name of names) if (survey.bytesOf(name) !== undefined) return false;
    return !relister.namesAny(names, this.#remover.removed);
  }

  async #putMark(note: { readonly atMs: number; readonly names: readonly string[] }): Promise<void> {
    const { confirm, signal } = this.#options;
    if (!confirm) return;
    const name = `${EXPIRED_PREFIX}${randomUUID()}`;
    await this.#repository.objects.put({ kind: "expired", name }, encodeExpired(note), signal);
    crashPoint("expire: marked");
  }
}

function missingBlob(location: string, id: Uint8Array): TidemarkError {
  return new TidemarkError(
    "OBJECT_MISSING",
    `${location}: what is to be kept needs the blob ${blobName(id)}, which no pack holds`,
    {
      hint: "Nothing expires from a damaged repository. `tidemark verify` tells what is missing and what depends on it.",
    },
  );
}

function lostLock(location: string): TidemarkError {
  return new TidemarkError(
    "REPOSITORY_LOCKED",
    `${location}: the lock could not be renewed in time, so expire stopped`,
    {
      hint: "Run it again; what it had marked or removed is right.",
    },
  );
}

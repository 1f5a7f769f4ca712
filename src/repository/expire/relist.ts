import { randomUUID } from "node:crypto";

import { hasCode } from "../../runtime/errors.ts";
import type { BlobUse } from "../blob-use.ts";
import { decodeIndex, encodeIndex, type PackListing } from "../pack.ts";
import { INDEX_PREFIX, readListing } from "../refresh-index.ts";
import type { Repository } from "../repository.ts";
import type { Survey } from "../survey.ts";

/** Of one index object. */
const MAX_BLOBS = 50_000;
const MAX_PACKS = 200;
/** Index objects with so few packs, and at least so many of them, are written as fewer ones. */
const SMALL_PACKS = 8;
const MANY_SMALL = 100;

export interface RelistOptions {
  readonly repository: Repository;
  readonly survey: Survey;
  readonly use: BlobUse;
  readonly marked: ReadonlySet<string>;
  readonly confirm: boolean;
  readonly signal: AbortSignal;
}

/** Which index objects name which packs, and new ones for those of objects that go. */
export class Relister {
  readonly #options: RelistOptions;
  /** By index object, as far as it is there. */
  readonly #packs = new Map<string, string[]>();
  /** Named by an index object that this run wrote. */
  readonly #written = new Set<string>();

  constructor(options: RelistOptions) {
    this.#options = options;
    for (const { source, pack } of options.use.listings()) {
      if (options.survey.bytesOf(source) === undefined) continue;
      this.#packs.set(source, [...(this.#packs.get(source) ?? []), pack]);
    }
  }

  /** Index objects that are not marked and name any of the packs. */
  naming(packs: ReadonlySet<string>): string[] {
    const { marked } = this.#options;
    return [...this.#packs].flatMap(([source, named]) =>
      !marked.has(source) && named.some((pack) => packs.has(pack)) ? [source] : [],
    );
  }

  /** Small ones that are not marked, if they are many. */
  manySmall(): string[] {
    const { marked } = this.#options;
    const small = [...this.#packs].filter(([source, named]) => !marked.has(source) && named.length <= SMALL_PACKS);
    return small.length < MANY_SMALL ? [] : small.map(([source]) => source);
  }

  /** Whether an index object names any of the packs that is not among those which `without` are. */
  namesAny(packs: ReadonlySet<string>, without: ReadonlySet<string>): boolean {
    return [...this.#packs].some(([source, named]) => !without.has(source) && named.some((pack) => packs.has(pack)));
  }

  /** `sources` go: their packs that stay, and that no other index object names, are named by new ones. */
  async relist(sources: readonly string[], isGoing: (pack: string) => boolean): Promise<void> {
    const { survey, marked, confirm } = this.#options;
    if (!confirm) return;
    const going = new Set(sources);
    const named = new Set(this.#written);
    for (const [source, packs] of this.#packs) {
      if (!going.has(source) && !marked.has(source)) for (const pack of packs) named.add(pack);
    }
    let group: PackListing[] = [];
    for (const source of sources) {
      for (const listing of await this.#read(source)) {
        if (named.has(listing.name) || isGoing(listing.name) || survey.bytesOf(listing.name) === undefined) continue;
        named.add(listing.name);
        if (isFull(group)) group = await this.#write(group);
        group.push(listing);
      }
    }
    await this.#write(group);
  }

  /** Those of the packs that no index object names get one: theirs was lost. */
  async name(packs: readonly string[]): Promise<void> {
    const { repository, survey, confirm, signal } = this.#options;
    if (!confirm) return;
    const named = new Set([...this.#written, ...[...this.#packs.values()].flat()]);
    let group: PackListing[] = [];
    for (const name of packs) {
      if (named.has(name)) continue;
      group.push(await readListing(repository.objects, { name, bytes: survey.bytesOf(name) ?? 0 }, signal));
      if (isFull(group)) group = await this.#write(group);
    }
    await this.#write(group);
  }

  /** One that is damaged says nothing, and what it named was found by the packs' own listings: it may not be referred to. */
  async #read(source: string): Promise<readonly PackListing[]> {
    const { repository, signal } = this.#options;
    try {
      return await repository.objects.get({ kind: "index", name: source }, signal, decodeIndex);
    } catch (error) {
      if (!hasCode(error, "OBJECT_CORRUPT", "OBJECT_MISSING")) throw error;
      return [];
    }
  }

  async #write(group: readonly PackListing[]): Promise<PackListing[]> {
    const { repository, signal } = this.#options;
    for (const { name } of group) this.#written.add(name);
    if (group.length === 0) return [];
    const name = `${INDEX_PREFIX}${randomUUID()}`;
    await repository.objects.put({ kind: "index", name }, encodeIndex(group), signal);
    return [];
  }
}

function isFull(group: readonly PackListing[]): boolean {
  const blobs = group.reduce((sum, listing) => sum + listing.blobs.length, 0);
  return group.length >= MAX_PACKS || blobs >= MAX_BLOBS;
}

import { chunksOf } from "../event/chunk-list.ts";
import { bytesOf } from "../event/tree-path.ts";
import type { BaseInfo, BaseManifest, ManifestDatabase } from "./base.ts";
import { blobName } from "./pack.ts";
import { decodeTableBlock } from "./table-block.ts";
import { readTree } from "./tree-list.ts";
import type { BadBlobs } from "./verify-packs.ts";
import { isDamage } from "./verify-report.ts";
import type { VerifyContext } from "./verify.ts";

/** A base whose manifest can be read. */
export interface ReadableBase {
  readonly info: BaseInfo;
  readonly manifest: BaseManifest;
}

/** Everything that a base refers to is there, sound as far as it was read, and stays. */
export async function verifyBases(context: VerifyContext, bad: BadBlobs): Promise<ReadableBase[]> {
  const { repository, signal } = context;
  const readable: ReadableBase[] = [];
  const needs = new BlobNeeds(context, bad);
  for (const info of await repository.bases.list(signal)) {
    const manifest = await manifestOf(context, info);
    if (!manifest) continue;
    readable.push({ info, manifest });
    for (const database of manifest.databases) await verifyDatabase(needs, { info, database });
    for (const tree of manifest.trees) {
      const what = `tree ${tree.name} in the base at offset ${info.offset}`;
      await needs.guarded({ object: info.name, what }, async () => {
        for (const id of tree.lists) await needs.require(id, { object: info.name, what });
        for await (const entry of readTree(repository.blobs, tree, signal)) {
          if (entry.kind !== "file") continue;
          for (const { id } of chunksOf(entry.chunkList)) await needs.require(bytesOf(id), { object: info.name, what });
        }
      });
    }
  }
  return readable;
}

async function manifestOf(
  { repository, findings, signal }: VerifyContext,
  info: BaseInfo,
): Promise<BaseManifest | undefined> {
  try {
    return await repository.bases.read(info, signal);
  } catch (error) {
    if (!isDamage(error)) throw error;
    findings.add(info.name, error.message, `the base at offset ${info.offset}`);
    return undefined;
  }
}

async function verifyDatabase(
  needs: BlobNeeds,
  { info, database }: { readonly info: BaseInfo; readonly database: ManifestDatabase },
): Promise<void> {
  const what = `database ${database.name} in the base at offset ${info.offset}`;
  const need = { object: info.name, what };
  for (const id of database.tables) {
    await needs.guarded(need, async () => {
      await needs.require(id, need);
      const { extents, patches } = decodeTableBlock(await needs.read(id));
      for (const extent of extents) if (extent) await needs.require(extent, need);
      for (const patch of patches) if (patch.pages.some((page) => page !== 0)) await needs.require(patch.id, need);
    });
  }
}

interface Need {
  /** That refers to it. */
  readonly object: string;
  readonly what: string;
}

/** Looks up each blob once, however many bases need it. */
export class BlobNeeds {
  readonly #context: VerifyContext;
  readonly #bad: BadBlobs;
  /** What is wrong with it; undefined: nothing. */
  readonly #known = new Map<string, string | undefined>();

  constructor(context: VerifyContext, bad: BadBlobs) {
    this.#context = context;
    this.#bad = bad;
  }

  async read(id: Uint8Array): Promise<Uint8Array> {
    return this.#context.repository.blobs.read(id, this.#context.signal);
  }

  async require(id: Uint8Array, { object, what }: Need): Promise<void> {
    const name = blobName(id);
    if (!this.#known.has(name)) this.#known.set(name, await this.#problemOf(id, name));
    const problem = this.#known.get(name);
    if (problem === undefined) return;
    const pack = this.#bad.get(name);
    if (pack === undefined) this.#context.findings.add(object, problem, what);
    else this.#context.findings.affects(pack, what);
  }

  /** What cannot be read on the way is a finding, not the end. */
  async guarded({ object, what }: Need, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!isDamage(error)) throw error;
      this.#context.findings.add(object, error.message, what);
    }
  }

  async #problemOf(id: Uint8Array, name: string): Promise<string | undefined> {
    const { blobs } = this.#context.repository;
    // Damaged in one pack it may be sound in another.
    if (this.#bad.has(name)) {
      try {
        await this.read(id);
        return undefined;
      } catch (error) {
        if (!isDamage(error)) throw error;
        return error.message;
      }
    }
    return blobs.has(id)
      ? undefined
      : `it refers to the blob ${name}, which is in no pack that index/ names and that stays`;
  }
}

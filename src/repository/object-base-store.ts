import { randomUUID } from "node:crypto";

import { RecordProblem } from "../event/record-error.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import { hasCode } from "../runtime/errors.ts";
import { decodeBase, encodeBase } from "./base-codec.ts";
import type { BaseInfo, BaseManifest, BaseStore, VerifiedNote } from "./base.ts";
import { decodeVerified, encodeVerified } from "./notes.ts";
import { BASE_PREFIX, baseName, parseBaseName, VERIFIED_PREFIX } from "./object-names.ts";
import type { SealedObjects } from "./sealed-objects.ts";

/** Bases, each an object. */
export class ObjectBaseStore implements BaseStore {
  readonly #objects: SealedObjects;
  readonly #marked: (prefix: string) => ReadonlySet<string>;

  /** `marked`: names of those that are on their way out. */
  constructor(objects: SealedObjects, marked: (prefix: string) => ReadonlySet<string>) {
    this.#objects = objects;
    this.#marked = marked;
  }

  async list(signal: AbortSignal): Promise<BaseInfo[]> {
    const bases: BaseInfo[] = [];
    const marked = this.#marked(BASE_PREFIX);
    for await (const { name, bytes } of this.#objects.store.list(BASE_PREFIX, signal)) {
      const parsed = parseBaseName(name);
      if (parsed && !marked.has(name)) bases.push({ name, bytes, ...parsed });
    }
    return bases;
  }

  read({ name, offset }: BaseInfo, signal: AbortSignal): Promise<BaseManifest> {
    return this.#objects.get({ kind: "base", name }, signal, (raw) => {
      const manifest = decodeBase(raw);
      if (manifest.offset === offset) return manifest;
      throw new RecordProblem(`it is of offset ${manifest.offset}`);
    });
  }

  async write(manifest: BaseManifest, signal: AbortSignal): Promise<BaseInfo> {
    const uuid = randomUUID();
    const { offset } = manifest;
    const name = baseName(offset, uuid);
    const bytes = await this.#objects.put({ kind: "base", name }, encodeBase(manifest), signal);
    crashPoint("repository: base stored");
    return { name, uuid, offset, bytes };
  }

  async markVerified(note: VerifiedNote, signal: AbortSignal): Promise<void> {
    const name = `${VERIFIED_PREFIX}${note.base}-${randomUUID()}`;
    await this.#objects.put({ kind: "verified", name }, encodeVerified(note), signal);
  }

  async verified(signal: AbortSignal): Promise<Map<string, VerifiedNote>> {
    const newest = new Map<string, VerifiedNote>();
    for await (const { name } of this.#objects.store.list(VERIFIED_PREFIX, signal)) {
      const note = await this.#note(name, signal);
      if (note && note.atMs >= (newest.get(note.base)?.atMs ?? 0)) newest.set(note.base, note);
    }
    return newest;
  }

  /** One that is damaged says nothing: the base counts as not verified. */
  async #note(name: string, signal: AbortSignal): Promise<VerifiedNote | undefined> {
    try {
      return await this.#objects.get({ kind: "verified", name }, signal, decodeVerified);
    } catch (error) {
      if (hasCode(error, "OBJECT_MISSING", "OBJECT_CORRUPT")) return undefined;
      throw error;
    }
  }
}

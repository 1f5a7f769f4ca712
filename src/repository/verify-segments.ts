import { offset, type Offset } from "../event/positions.ts";
import { bytesOf } from "../event/tree-path.ts";
import type { TidemarkError } from "../runtime/errors.ts";
import { namesIn } from "./segment-summary.ts";
import type { SegmentHead, SegmentInfo } from "./segment.ts";
import { BlobNeeds, type ReadableBase } from "./verify-bases.ts";
import type { BadBlobs } from "./verify-packs.ts";
import { isDamage } from "./verify-report.ts";
import type { VerifyContext } from "./verify.ts";

interface Known {
  readonly bad: BadBlobs;
  readonly bases: readonly ReadableBase[];
}

/** Segments lead from one to the next without a gap, and what was chosen of them can be read. Returns how many there are. */
export async function verifySegments(context: VerifyContext, { bad, bases }: Known): Promise<number> {
  const { repository, signal } = context;
  const needs = new BlobNeeds(context, bad);
  const chain = new Chain(context, bases);
  let count = 0;
  for await (const info of repository.segments.list(signal)) {
    count += 1;
    const head = await headOf(context, info);
    if (head) chain.take(info, head);
    if (head && context.chosen(info.name)) {
      await readEvents(context, info, needs);
      context.checked(info.name, info.bytes);
    }
  }
  chain.end();
  return count;
}

async function headOf(context: VerifyContext, info: SegmentInfo): Promise<SegmentHead | undefined> {
  try {
    return await context.repository.segments.head(info, context.signal);
  } catch (error) {
    if (!isDamage(error)) throw error;
    damaged(context, info, error);
    return undefined;
  }
}

async function readEvents(context: VerifyContext, info: SegmentInfo, needs: BlobNeeds): Promise<void> {
  const { repository, signal } = context;
  const need = { object: info.name, what: eventsOf(info) };
  try {
    for await (const events of repository.segments.read(info, { signal })) {
      for (const each of events) {
        for (const id of namesIn(each.event().body)) await needs.require(bytesOf(id), need);
      }
    }
  } catch (error) {
    if (!isDamage(error)) throw error;
    damaged(context, info, error);
  }
}

function damaged({ findings }: VerifyContext, info: SegmentInfo, { message }: TidemarkError): void {
  findings.add(info.name, message, eventsOf(info));
}

function eventsOf({ first, last }: { readonly first: number; readonly last: number }): string {
  return first === last ? `event ${first}` : `events ${first} to ${last}`;
}

/** Follows segments in the order of their first offsets. */
class Chain {
  readonly #context: VerifyContext;
  readonly #bases: readonly ReadableBase[];
  #reached: { readonly name: string; readonly last: Offset; readonly hash: Uint8Array } | undefined;

  constructor(context: VerifyContext, bases: readonly ReadableBase[]) {
    this.#context = context;
    this.#bases = bases;
  }

  take({ name, first, last }: SegmentInfo, head: SegmentHead): void {
    const { findings } = this.#context;
    const before = this.#reached;
    if (before && first > before.last + 1) this.#gap(offset(before.last + 1), offset(first - 1));
    if (before && first === before.last + 1 && Buffer.compare(before.hash, head.hashBefore) !== 0)
      findings.add(name, `it does not follow ${before.name}: they are of two logs`, eventsOf({ first, last }));
    for (const { info, manifest } of this.#bases) {
      if (manifest.offset === first - 1 && Buffer.compare(manifest.hash, head.hashBefore) !== 0)
        findings.add(name, `it does not follow ${info.name}: they are of two logs`, eventsOf({ first, last }));
    }
    if (!before || last > before.last) this.#reached = { name, last, hash: head.hashAfter };
  }

  end(): void {
    const last = this.#reached?.last;
    if (last === undefined) return;
    const beyond = this.#bases.filter(({ manifest }) => manifest.offset > last);
    for (const { manifest } of beyond) this.#gap(offset(last + 1), manifest.offset);
  }

  /** The archive may have begun anew with a base, when the log was trimmed before it was archived. */
  #gap(first: Offset, last: Offset): void {
    const { findings } = this.#context;
    const isBridged = this.#bases.some(({ manifest }) => manifest.offset >= last);
    const text = `${eventsOf({ first, last })} ${first === last ? "is" : "are"} in no readable segment`;
    if (isBridged)
      findings.warnings.push(`${text}: moments in between cannot be restored, those after the next base can`);
    else findings.add(`segments/ (${first} to ${last})`, text, "everything after it, until the next base");
  }
}

import { checkFields, KIND_FORMATS, readFields, wireFields } from "./body-fields.ts";
import { chunkCount, chunkSizes } from "./chunk-list.ts";
import { MAX_PAGE_NUMBER, propertyOf } from "./field-rules.ts";
import type { EventBody, EventKind, PageImage, SqliteCommit, SqlitePart } from "./kinds.ts";
import { packMap, unpackMap } from "./message-pack.ts";
import { RecordProblem } from "./record-error.ts";

/** A raw body: the map, then the pieces one behind the other. */
export interface BodyParts {
  /** Valid until the next body is encoded. */
  readonly map: Uint8Array;
  readonly pieces: readonly Uint8Array[];
  readonly rawBytes: number;
}

/** @throws RecordProblem when a field is not what the format allows: better no record than one that nobody can read */
export function encodeBody(body: EventBody): BodyParts {
  const fields = wireFields(body.kind, checkFields(body.kind, propertyOf(body)));
  if ("pages" in body) return withPages(fields, body);
  const data = "data" in body ? body.data : undefined;
  requireContent(body, data);
  const map = packMap(fields);
  return data ? { map, pieces: [data], rawBytes: map.length + data.length } : { map, pieces: [], rawBytes: map.length };
}

/**
 * As encodeBody, without the content of files: whoever keeps it elsewhere finds it by the name that the map says.
 *
 * @throws RecordProblem
 */
export function encodeWithoutContent(body: EventBody): BodyParts {
  if (!("data" in body)) return encodeBody(body);
  const map = packMap(wireFields(body.kind, checkFields(body.kind, propertyOf(body))));
  return { map, pieces: [], rawBytes: map.length };
}

function withPages(fields: Record<string, unknown>, { pages, pageSize }: SqlitePart | SqliteCommit): BodyParts {
  const numbers = pages.map((page) => {
    if (page.data.length !== pageSize) {
      throw new RecordProblem(`page ${page.pageNumber} has ${page.data.length} bytes, the page size is ${pageSize}`);
    }
    return checkPageNumber(page.pageNumber);
  });
  const map = packMap({ ...fields, pages: numbers });
  return { map, pieces: pages.map(({ data }) => data), rawBytes: map.length + pages.length * pageSize };
}

/** Page images and content of the result are views into `raw`. @throws RecordProblem */
export function decodeBody(kind: EventKind, raw: Uint8Array, mapBytes: number): EventBody {
  const body = decodeParts(kind, raw.subarray(0, mapBytes), raw.subarray(mapBytes));
  requireContent(body, "data" in body ? body.data : undefined);
  return body;
}

/** What encodeWithoutContent made. The data of a `file.chunk` is empty. @throws RecordProblem */
export function decodeWithoutContent(kind: EventKind, mapBytes: Uint8Array, pages: Uint8Array): EventBody {
  const body = decodeParts(kind, mapBytes, pages);
  return body.kind === "file.chunk" ? { ...body, data: new Uint8Array(0) } : body;
}

function decodeParts(kind: EventKind, mapBytes: Uint8Array, behind: Uint8Array): EventBody {
  const map = unpackMap(mapBytes);
  const fields = readFields(kind, map);
  const { raw: rest } = KIND_FORMATS[kind];
  if (rest === "pages") {
    const pages = slicePages(pageNumbersOf(map), behind, fields["pageSize"] as number);
    return { kind, ...fields, pages } as unknown as EventBody;
  }
  const data = rest !== undefined && behind.length > 0 ? behind : undefined;
  if (behind.length > 0 && !data) throw new RecordProblem(`${behind.length} bytes follow the map`);
  return { kind, ...fields, ...(data ? { data } : {}) } as unknown as EventBody;
}

/** Content is never empty, and inline content is the whole file in one chunk. */
function requireContent(body: EventBody, data: Uint8Array | undefined): void {
  if (body.kind === "file.chunk" && !(data && data.length > 0)) throw new RecordProblem("a chunk without content");
  if (body.kind !== "file.put" || !data) return;
  const { size, chunks, parts } = body;
  // Its name may be keyed: that it is the content's is checked by whoever uses it.
  const isWhole = chunkCount(chunks) === 1 && chunkSizes(chunks).next().value === size;
  if (size === data.length && parts === 0 && isWhole) return;
  throw new RecordProblem(`${data.length} bytes of content follow the map, which are not the file's one chunk`);
}

/** @throws RecordProblem */
export function pageNumbersOf(map: ReadonlyMap<string, unknown>): readonly unknown[] {
  const numbers = map.get("pages");
  if (!Array.isArray(numbers)) throw new RecordProblem("field pages is not a list");
  return numbers as readonly unknown[];
}

function slicePages(numbers: readonly unknown[], data: Uint8Array, pageSize: number): PageImage[] {
  if (data.length !== numbers.length * pageSize) {
    throw new RecordProblem(`${data.length} bytes of pages, ${numbers.length} pages of ${pageSize} bytes are listed`);
  }
  const pages: PageImage[] = [];
  for (let index = 0; index < numbers.length; index += 1) {
    const pageNumber = checkPageNumber(numbers[index]);
    pages.push({ pageNumber, data: data.subarray(index * pageSize, (index + 1) * pageSize) });
  }
  return pages;
}

/** @throws RecordProblem */
export function checkPageNumber(value: unknown): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= MAX_PAGE_NUMBER) return value;
  const shown = typeof value === "number" || typeof value === "bigint" ? String(value) : `a ${typeof value}`;
  throw new RecordProblem(`field pages: ${shown} is not a page number`);
}

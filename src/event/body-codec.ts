import { checkFields, KIND_FORMATS, MAX_PAGE_NUMBER, propertyOf } from "./body-fields.ts";
import type { EventBody, EventKind, PageImage } from "./kinds.ts";
import { packMap, unpackMap } from "./message-pack.ts";
import { RecordProblem } from "./record-error.ts";

/** A raw body: the map, then the pages one behind the other. */
export interface BodyParts {
  /** Valid until the next body is encoded. */
  readonly map: Uint8Array;
  readonly pages: readonly PageImage[];
  readonly rawBytes: number;
}

/** @throws RecordProblem when a field is not what the format allows: better no record than one that nobody can read */
export function encodeBody(body: EventBody): BodyParts {
  const fields = checkFields(body.kind, propertyOf(body));
  if (!("pages" in body)) {
    const map = packMap(fields);
    return { map, pages: [], rawBytes: map.length };
  }
  const { pages, pageSize } = body;
  const numbers = pages.map((page) => {
    if (page.data.length !== pageSize) {
      throw new RecordProblem(`page ${page.pageNumber} has ${page.data.length} bytes, the page size is ${pageSize}`);
    }
    return checkPageNumber(page.pageNumber);
  });
  const map = packMap({ ...fields, pages: numbers });
  return { map, pages, rawBytes: map.length + pages.length * pageSize };
}

/** Page images of the result are views into `raw`. @throws RecordProblem */
export function decodeBody(kind: EventKind, raw: Uint8Array, mapBytes: number): EventBody {
  const map = unpackMap(raw.subarray(0, mapBytes));
  const fields = checkFields(kind, (name) => map.get(name));
  if (!KIND_FORMATS[kind].pages) {
    if (raw.length !== mapBytes) throw new RecordProblem(`${raw.length - mapBytes} bytes follow the map`);
    return { kind, ...fields } as unknown as EventBody;
  }
  const pageSize = fields["pageSize"] as number;
  const pages = slicePages(map.get("pages"), raw.subarray(mapBytes), pageSize);
  return { kind, ...fields, pages } as unknown as EventBody;
}

function slicePages(numbers: unknown, data: Uint8Array, pageSize: number): PageImage[] {
  if (!Array.isArray(numbers)) throw new RecordProblem("field pages is not a list");
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

function checkPageNumber(value: unknown): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= 1 && value <= MAX_PAGE_NUMBER) return value;
  const shown = typeof value === "number" || typeof value === "bigint" ? String(value) : `a ${typeof value}`;
  throw new RecordProblem(`field pages: ${shown} is not a page number`);
}

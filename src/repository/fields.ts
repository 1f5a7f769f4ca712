import { applyRules, type FieldRule, locateField, propertyOf } from "../event/field-rules.ts";
import { packMap, unpackMap } from "../event/message-pack.ts";
import { RecordProblem } from "../event/record-error.ts";

/** Of a map: fields in a form of their own (`wire`) only at the top. What must be there, in the order in which it is written, and what may be. */
export interface MapFormat {
  readonly fields: Readonly<Record<string, FieldRule>>;
  readonly optional?: Readonly<Record<string, FieldRule>>;
}

/** The result owns its memory. @throws RecordProblem when a field is not what the format allows */
export function encodeMap(format: MapFormat, value: object): Uint8Array {
  const fields = Object.entries(checked(format, propertyOf(value)));
  const wired = fields.map(([name, one]) => [name, ruleOf(format, name)?.wire?.write(one) ?? one]);
  return Uint8Array.from(packMap(Object.fromEntries(wired) as Record<string, unknown>));
}

/** Fields that the format does not name are left out: a later version may have more. @throws RecordProblem */
export function decodeMap(format: MapFormat, data: Uint8Array): Record<string, unknown> {
  const map = unpackMap(data);
  return checked(format, (name) => {
    const value = map.get(name);
    const wire = value === undefined ? undefined : ruleOf(format, name)?.wire;
    return wire ? locateField(name, () => wire.read(value)) : value;
  });
}

function ruleOf({ fields, optional }: MapFormat, name: string): FieldRule | undefined {
  return fields[name] ?? optional?.[name];
}

function checked({ fields, optional = {} }: MapFormat, get: (name: string) => unknown): Record<string, unknown> {
  const present = Object.entries(optional).filter(([name]) => get(name) !== undefined);
  return { ...applyRules(fields, get), ...applyRules(Object.fromEntries(present), get) };
}

export const listOf =
  (rule: FieldRule, most: number): FieldRule =>
  (value) => {
    if (!Array.isArray(value)) throw new RecordProblem("it is not a list");
    if (value.length > most) throw new RecordProblem(`it has ${value.length} entries, at most ${most} are possible`);
    return value.map((one) => rule(one));
  };

export const mapOf =
  (format: MapFormat): FieldRule =>
  (value) => {
    if (typeof value !== "object" || value === null) throw new RecordProblem("it is not a map");
    return checked(format, value instanceof Map ? (name) => value.get(name) : propertyOf(value));
  };

export const flag: FieldRule = (value) => {
  if (typeof value === "boolean") return value;
  throw new RecordProblem("it is neither true nor false");
};

const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

export const uuid: FieldRule = (value) => {
  if (typeof value === "string" && UUID.test(value)) return value;
  throw new RecordProblem("it is not a UUID");
};

/** Names of blobs, one behind the other: as binary, to be short. */
const ID_BYTES = 32;

export const idList: FieldRule = (value) => {
  if (Array.isArray(value)) return Buffer.concat(value as Uint8Array[]);
  if (value instanceof Uint8Array && value.length % ID_BYTES === 0) return value;
  throw new RecordProblem("it is not a list of names of blobs");
};

export function idsOf(list: Uint8Array): Uint8Array[] {
  return Array.from({ length: list.length / ID_BYTES }, (_, at) => list.subarray(at * ID_BYTES, (at + 1) * ID_BYTES));
}

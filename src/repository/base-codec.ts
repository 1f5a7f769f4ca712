import { hash, integer, MAX_PAGE_NUMBER, pageSize, safe, text, time, u64 } from "../event/field-rules.ts";
import { epoch, offset } from "../event/positions.ts";
import type { BaseManifest } from "./base.ts";
import { decodeMap, encodeMap, idList, idsOf, listOf, type MapFormat, mapOf } from "./fields.ts";

/** Of one set. */
const MAX_NAMES = 100_000;

const DATABASE: MapFormat = {
  fields: {
    name: text,
    pageSize,
    sizePages: integer(0, MAX_PAGE_NUMBER),
    checksum: u64,
    offset: safe,
    tables: idList,
  },
};
const TREE: MapFormat = { fields: { name: text, lists: idList, count: safe, bytes: safe } };

const FORMAT: MapFormat = {
  fields: {
    offset: safe,
    timeMs: time,
    epoch: integer(1, 0xffffffff),
    logId: text,
    hash,
    checksumSeed: u64,
    databases: listOf(mapOf(DATABASE), MAX_NAMES),
    trees: listOf(mapOf(TREE), MAX_NAMES),
    bytesNew: safe,
    bytesAll: safe,
    createdMs: time,
    createdBy: text,
  },
};

export function encodeBase(manifest: BaseManifest): Uint8Array {
  return encodeMap(FORMAT, manifest);
}

/** @throws RecordProblem */
export function decodeBase(raw: Uint8Array): BaseManifest {
  const fields = decodeMap(FORMAT, raw) as unknown as Wire;
  return {
    ...fields,
    offset: offset(fields.offset),
    epoch: epoch(fields.epoch),
    databases: fields.databases.map((one) => ({ ...one, offset: offset(one.offset), tables: idsOf(one.tables) })),
    trees: fields.trees.map((one) => ({ ...one, lists: idsOf(one.lists) })),
  };
}

type Replaced<T, Field extends keyof T, By> = Omit<T, Field> & { readonly [name in Field]: By };

type Wire = Omit<BaseManifest, "databases" | "trees"> & {
  readonly databases: readonly Replaced<BaseManifest["databases"][number], "tables", Uint8Array>[];
  readonly trees: readonly Replaced<BaseManifest["trees"][number], "lists", Uint8Array>[];
};

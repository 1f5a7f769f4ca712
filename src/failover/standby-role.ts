import fs from "node:fs";
import path from "node:path";

import type { Config, DatabasePattern, TreeConfig } from "../config/config.ts";
import { standbyState } from "../config/load-config.ts";
import { DEFAULT_MAX_DELETE } from "../config/tree-list.ts";
import { syncDirectory } from "../runtime/durable-directory.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { readIfThere, replaceFile } from "../runtime/replace-file.ts";

const ROLE_FILE = "role.json";

/** On disk before anything is captured: this standby was promoted, and its agent captures from then on. */
export interface PromotedRole {
  readonly set: string;
  readonly epoch: number;
  /** Of the record that began it. */
  readonly offset: number;
  /** RFC 3339. */
  readonly at: string;
  /** Names of what the standby held. */
  readonly databases: readonly string[];
  readonly trees: readonly string[];
}

/** Of the capture of a promoted standby. Not the standby's own: there may be that of the `run` that kept it. */
export function promotedState(standby: string): string {
  return path.join(standbyState(standby), "primary");
}

export function writeRole(standby: string, role: PromotedRole): void {
  replaceFile(roleFile(standby), `${JSON.stringify(role, null, 2)}\n`, { mode: 0o600 });
}

/** It is a standby again. */
export function dropRole(standby: string): void {
  fs.rmSync(roleFile(standby), { force: true });
  syncDirectory(promotedState(standby));
}

/** Undefined: it is a standby. */
export function readRole(standby: string): PromotedRole | undefined {
  const text = readIfThere(roleFile(standby));
  return text === undefined ? undefined : parse(text, standby);
}

function parse(text: string, standby: string): PromotedRole {
  try {
    return JSON.parse(text) as PromotedRole;
  } catch (error) {
    throw new TidemarkError(
      "INTEGRITY",
      `${roleFile(standby)} is damaged: this standby was promoted, and is the primary`,
      {
        hint: "Check the disk. `tidemark history` tells the epoch and its host; run `tidemark promote` again after removing the file.",
        cause: error,
      },
    );
  }
}

function roleFile(standby: string): string {
  return path.join(promotedState(standby), ROLE_FILE);
}

/** What a promoted standby captures: its own copies, and what appears beside them under the patterns of the set. */
export function promotedConfig(
  config: Config,
  { databases, trees }: Pick<PromotedRole, "databases" | "trees">,
): Config {
  const { standby = "" } = config;
  return {
    ...config,
    databases: databases.map((name) => ({ name, path: path.join(standby, name) })),
    patterns: config.patterns.map((pattern) => onStandby(pattern, standby)),
    trees: trees.map((name) => treeOnStandby(name, config)),
    standby: undefined,
    state: promotedState(standby),
  };
}

/** A database that a pattern found lies on the standby under its file name. */
function onStandby({ pattern, name, where }: DatabasePattern, standby: string): DatabasePattern {
  return { pattern: name ?? path.basename(pattern), directory: standby, name, where };
}

function treeOnStandby(name: string, { trees, standby = "" }: Config): TreeConfig {
  const { exclude, include, maxDeleteShare } = trees.find((tree) => tree.name === name) ?? UNLISTED;
  return { name, path: path.join(standby, name), exclude, include, maxDeleteShare };
}

const UNLISTED = { exclude: [], include: [], maxDeleteShare: DEFAULT_MAX_DELETE } as const;

import path from "node:path";

import { readIfThere, replaceFile } from "../runtime/replace-file.ts";

const FENCE_FILE = "fenced.json";

/** That another primary has taken the place of this one. While it is on disk nothing is captured here. */
export interface FenceRecord {
  readonly set: string;
  /** Of the writer that is fenced; 0 when it is not known. */
  readonly epoch: number;
  /** Last offset that this writer knew to be in the log; 0 when it is not known. */
  readonly offset: number;
  readonly reason: string;
  /** RFC 3339. */
  readonly at: string;
}

export function fenceFile(state: string): string {
  return path.join(state, FENCE_FILE);
}

/** Survives a power cut when it returns. */
export function writeFence(state: string, record: FenceRecord): void {
  replaceFile(fenceFile(state), `${JSON.stringify(record, null, 2)}\n`, { mode: 0o600 });
}

/** Undefined: not fenced. A record that cannot be read still fences: whoever wrote it meant to. */
export function readFence(state: string): FenceRecord | undefined {
  const text = readIfThere(fenceFile(state));
  return text === undefined ? undefined : parse(text, state);
}

function parse(text: string, state: string): FenceRecord {
  const unknown = { set: "", epoch: 0, offset: 0, reason: `${fenceFile(state)} cannot be read`, at: "" };
  try {
    return { ...unknown, ...(JSON.parse(text) as Partial<FenceRecord>) };
  } catch {
    return unknown;
  }
}

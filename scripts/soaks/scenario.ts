/** What a scenario is to `scripts/soak`: one file each, entered in main.ts. */
import type { ParseArgsOptionsConfig } from "node:util";

export interface Scenario {
  /** One line for --help. */
  readonly summary: string;
  /** Options with their defaults, all of them text; `help` explains each. */
  readonly options: Readonly<Record<string, { readonly default: string; readonly help: string }>>;
  readonly run: (options: Readonly<Record<string, string>>) => Promise<Outcome>;
}

export interface Outcome {
  /** Whether everything was as it must be. */
  readonly ok: boolean;
  /** What was not. */
  readonly problems: readonly string[];
  /** For scripts: printed as one line of JSON. */
  readonly figures: Readonly<Record<string, unknown>>;
  /** For people: printed as a table. */
  readonly rows: readonly (readonly [string, string])[];
}

export function parseOptionsOf(scenario: Scenario): ParseArgsOptionsConfig {
  return Object.fromEntries(
    Object.entries(scenario.options).map(([name, option]) => [name, { type: "string", default: option.default }]),
  );
}

/** Progress of a long run, on stderr. */
export function say(text: string): void {
  process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${text}\n`);
}

export function gibibytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}

export function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(0)} MiB`;
}

export function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

import { fileURLToPath } from "node:url";

import { within } from "../wait.ts";
import type { BankOptions } from "./bank.ts";
import { Program } from "./program.ts";
import type { ReaderOptions } from "./reader.ts";
import type { WriterOptions } from "./writer.ts";

const pathOf = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

/** Makes a bank's database in WAL mode, in a process of its own. */
export async function createBank(database: string, bank: BankOptions, env: Record<string, string> = {}): Promise<void> {
  const options = JSON.stringify({ create: true, database, bank });
  await using program = new Program([process.execPath, pathOf("writer.ts"), options], env);
  const { code } = await within("the bank is made", 20_000, program.exited);
  if (code !== 0) throw new Error(program.errors);
}

/** Starts a writer; resolves when it writes. */
export async function startWriter(options: WriterOptions, env: Record<string, string> = {}): Promise<Program> {
  return started(new Program([process.execPath, pathOf("writer.ts"), JSON.stringify(options)], env));
}

/** Starts a reader of a standby that may not be there yet. */
export async function startReader(options: ReaderOptions): Promise<Program> {
  return started(new Program([process.execPath, pathOf("reader.ts"), JSON.stringify(options)]));
}

async function started(program: Program): Promise<Program> {
  await program.line("ready", (line) => line === "ready");
  return program;
}

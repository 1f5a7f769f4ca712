import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import Database from "better-sqlite3";
import { expect, test } from "vitest";

import { DEFAULT_BANK } from "../support/apps/bank.ts";
import { createBank, startReader, startWriter } from "../support/apps/bank-programs.ts";
import { reportOf } from "../support/apps/program.ts";
import type { ReaderReport } from "../support/apps/reader.ts";
import { bankDigest, Recorder } from "../support/apps/recorder.ts";
import type { WriterReport } from "../support/apps/writer.ts";
import { comparePages } from "../support/compare.ts";

// What the other tests rely on: the recorder knows what is in the database, and the reader notices what is wrong.

test("the recorder knows every state of a bank that two writers work on", async () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-programs-"));
  const database = path.join(directory, "bank.db");
  await createBank(database, DEFAULT_BANK);
  const journals = [1, 2].map((writer) => path.join(directory, `${writer}.journal`));
  const writers = await Promise.all(
    journals.map(async (journal, writer) =>
      startWriter({ database, journal, writer, bank: DEFAULT_BANK, rate: 2000, burst: 5, limit: 400 }),
    ),
  );
  await Promise.all(writers.map((writer) => writer.exited));
  const reports = writers.map((writer) => JSON.parse(writer.lines.at(-1) ?? "") as WriterReport);
  expect(reports.map((report) => report.commits)).toEqual([400, 400]);

  const recorder = new Recorder(DEFAULT_BANK, journals);
  expect(recorder.lastSeq).toBe(800);
  expect(bankDigest(database)).toEqual({ seq: 800, digest: recorder.digestAt(800) });
  expect(recorder.digestAt(799)).not.toBe(recorder.digestAt(800));
  fs.rmSync(directory, { recursive: true });
});

test("the reader reports a broken sum, a changed body and a step back", async () => {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-programs-"));
  const database = path.join(directory, "bank.db");
  await createBank(database, DEFAULT_BANK);
  await using writer = await startWriter({
    database,
    journal: path.join(directory, "journal"),
    writer: 0,
    bank: DEFAULT_BANK,
    rate: 1000,
    burst: 10,
    limit: 100,
  });
  await writer.exited;
  const copy = path.join(directory, "copy.db");
  fs.copyFileSync(database, copy);
  expect(comparePages(database, copy)).toBeUndefined();

  await using reader = await startReader({ database, bank: DEFAULT_BANK, everyMs: 5, reopenEvery: 5 });
  const connection = new Database(database);
  connection.exec("UPDATE accounts SET balance = balance + 1 WHERE id = 3");
  connection.exec("UPDATE entries SET body = x'00' WHERE seq = 98");
  connection.exec("UPDATE head SET seq = 99");
  await reader.line("the sum", (line) => line.includes("balances sum up to 20001"));
  await reader.line("the body", (line) => line.includes("entry 98 has another body"));
  await reader.line("the count", (line) => line.includes("there are 100 entries"));
  connection.exec("UPDATE head SET seq = 98");
  await reader.line("the step back", (line) => line.includes("went back from 99 to 98"));
  connection.close();
  expect((await reportOf<ReaderReport>(reader)).violations.length).toBeGreaterThanOrEqual(4);
  expect(comparePages(database, copy)?.count).toBeGreaterThan(0);
  fs.rmSync(directory, { recursive: true });
});

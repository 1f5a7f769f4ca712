import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import Database from "better-sqlite3";

import {
  type CliOptions,
  type CliResult,
  lastJson,
  runTidemark,
  type RunningTidemark,
  startTidemark,
} from "./tidemark-cli.ts";

/** A temporary directory in which the command line is run, with a home of its own. */
export class CliScene implements AsyncDisposable {
  readonly directory = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-cli-")));
  readonly #running: RunningTidemark[] = [];

  path(...names: readonly string[]): string {
    return path.join(this.directory, ...names);
  }

  /** However slow the machine, no heartbeat comes in between and no objective is missed. */
  quiet(): void {
    this.write("tidemark.yml", "heartbeat: 1h\nobjectives: { rpo: 1h }\n");
  }

  write(name: string, text: string): string {
    fs.mkdirSync(path.dirname(this.path(name)), { recursive: true });
    fs.writeFileSync(this.path(name), text);
    return this.path(name);
  }

  /** Nobody has it open afterwards: its WAL is gone. */
  database(name = "app.db", journalMode = "wal"): string {
    const file = this.path(name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    const database = new Database(file);
    database.pragma(`journal_mode=${journalMode}`);
    database.exec("CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT); INSERT INTO note (text) VALUES ('first')");
    database.close();
    return file;
  }

  run(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
    return runTidemark(args, this.#options(options));
  }

  start(args: readonly string[], options: CliOptions = {}): RunningTidemark {
    const running = startTidemark(args, this.#options(options));
    this.#running.push(running);
    return running;
  }

  /** Runs with --json and gives the parsed answer, whatever the exit code. */
  async ask(args: readonly string[]): Promise<Record<string, unknown>> {
    const { stdout, stderr } = await this.run([...args, "--json"]);
    return lastJson(stdout.trim() === "" ? stderr : stdout);
  }

  /** Runs with --json what must fail, and gives exit code and error. */
  async refused(args: readonly string[], options: CliOptions = {}): Promise<Refusal> {
    const { code, stdout, stderr } = await this.run([...args, "--json"], options);
    const error = lastJson(stderr);
    if (stdout !== "" || error["ok"] !== false) throw new Error(`was not refused: ${stdout}${stderr}`);
    return { exit: code, code: String(error["code"]), message: String(error["message"]), hint: String(error["hint"]) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const running of this.#running) await running[Symbol.asyncDispose]();
    fs.rmSync(this.directory, { recursive: true, force: true });
  }

  #options(options: CliOptions): CliOptions {
    const home = { HOME: this.path("home"), XDG_STATE_HOME: this.path("home", "state") };
    return { cwd: this.directory, ...options, env: { ...home, ...options.env } };
  }
}

export interface Refusal {
  readonly exit: number;
  readonly code: string;
  readonly message: string;
  readonly hint: string;
}

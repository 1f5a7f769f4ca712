import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

/** Fossil, a version control system that keeps everything in one SQLite database: a program that is not ours. */
export class Fossil {
  readonly repository: string;
  readonly #home: string;
  readonly #checkout: string;

  /** Makes a repository in WAL mode and checks it out under `directory`. */
  constructor(repository: string, directory: string) {
    this.repository = repository;
    this.#home = path.join(directory, "fossil-home");
    this.#checkout = path.join(directory, "fossil-checkout");
    fs.mkdirSync(this.#home);
    fs.mkdirSync(this.#checkout);
    this.run("init", repository);
    this.run("rebuild", repository, "--wal");
    this.run("open", repository);
    this.run("settings", "autosync", "off");
    // Files change several times a second here, which their times do not show.
    this.run("settings", "mtime-changes", "off");
  }

  run(...args: string[]): string {
    const env = { ...process.env, HOME: this.#home, FOSSIL_HOME: this.#home, USER: "tester" };
    return execFileSync("fossil", args, {
      cwd: this.#checkout,
      env,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
  }

  /** Writes files of various sizes and commits them. */
  commit(number: number): void {
    for (const [name, bytes] of [
      ["small", 200],
      [`file-${number % 7}`, 40_000],
      [`new-${number}`, 3000],
    ] as const) {
      fs.writeFileSync(path.join(this.#checkout, name), `${number}\n${randomBytes(bytes).toString("base64")}\n`);
    }
    this.run("addremove");
    this.run("commit", "-m", `check-in ${number}`, "--no-warnings");
  }

  /** Fossil's own check of a repository: every artifact can be extracted and has the hash it is named by. */
  integrityOf(repository: string): string {
    return this.run("test-integrity", "-R", repository, "--parse");
  }

  /** Comments of all check-ins, newest first. */
  checkInsOf(repository: string): string[] {
    const timeline = this.run("timeline", "-R", repository, "-t", "ci", "-n", "0", "-W", "0", "-F", "%c");
    return timeline.split("\n").filter((line) => line.includes("check-in "));
  }
}

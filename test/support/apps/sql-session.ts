import { fileURLToPath } from "node:url";

import { within } from "../wait.ts";
import { Program } from "./program.ts";

export interface SqlRequest {
  readonly sql?: string;
  readonly action?: "connect" | "disconnect";
}

export interface SqlAnswer {
  readonly rows?: unknown[][];
  readonly error?: string;
}

export interface SqlSessionOptions {
  /** node: better-sqlite3's SQLite (default). python: the system's. */
  readonly kind?: "node" | "python";
  readonly env?: Record<string, string>;
}

const ANSWER_TIMEOUT_MS = 60_000;
const pathOf = (file: string): string => fileURLToPath(new URL(file, import.meta.url));

/** An application in a process of its own, one connection, every statement at the test's word. */
export class SqlSession implements AsyncDisposable {
  readonly program: Program;
  #asked = 0;

  constructor(database: string, options: SqlSessionOptions = {}) {
    const { kind = "node", env = {} } = options;
    const command: [string, ...string[]] =
      kind === "python" ? ["python3", pathOf("sql-app.py")] : [process.execPath, pathOf("sql-app.ts")];
    this.program = new Program([...command, database], env);
  }

  /** Runs one statement and gives its rows, or several (no semicolon in literals) and gives none. */
  async run(sql: string): Promise<unknown[][]> {
    const { rows, error } = await this.#ask({ sql });
    if (error !== undefined) throw new Error(`${error} (${sql.slice(0, 200)})`);
    return rows ?? [];
  }

  /** The first column of the first row. */
  async value(sql: string): Promise<unknown> {
    return (await this.run(sql))[0]?.[0];
  }

  /** Opens the connection without reading. */
  async connect(): Promise<void> {
    await this.#ask({ action: "connect" });
  }

  /** Closes the connection as an application does at its end; the process goes on. */
  async disconnect(): Promise<void> {
    await this.#ask({ action: "disconnect" });
  }

  async #ask(request: SqlRequest): Promise<SqlAnswer> {
    const { program } = this;
    const index = this.#asked;
    this.#asked += 1;
    program.child.stdin?.write(`${JSON.stringify(request)}\n`);
    const answered = program.nextLine(index);
    const ended = program.exited.then(({ code, signal }) => {
      throw new Error(`the application ended (${signal ?? code}): ${program.errors}`);
    });
    ended.catch(() => undefined);
    const line = await within("the application answers", ANSWER_TIMEOUT_MS, Promise.race([answered, ended]));
    return JSON.parse(line) as SqlAnswer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.program[Symbol.asyncDispose]();
  }
}

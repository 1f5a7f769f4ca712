import Database from "better-sqlite3";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe } from "vitest";
import { openEmbeddedLog } from "../../src/log/embedded-log.ts";
import { changeLogContract, type LogPlace } from "./change-log.ts";

async function makePlace(): Promise<LogPlace> {
  const root = mkdtempSync(join(tmpdir(), "tidemark-embedded-"));
  const directory = join(root, "log");
  const saved = join(root, "saved");
  let blocker: Database.Database | undefined;
  const unstall = (): void => {
    blocker?.close();
    blocker = undefined;
  };
  return {
    open: (mode, set = "app", begin) => openEmbeddedLog({ directory, set, mode, begin }),
    async save() {
      cpSync(directory, saved, { recursive: true });
    },
    async restore() {
      rmSync(directory, { recursive: true });
      cpSync(saved, directory, { recursive: true });
    },
    async remove() {
      rmSync(directory, { recursive: true });
    },
    // Somebody else's write transaction: the writer's next commit waits for its end.
    stall() {
      blocker = new Database(join(directory, "log.db"));
      blocker.exec("BEGIN IMMEDIATE");
    },
    unstall,
    async [Symbol.asyncDispose]() {
      unstall();
      rmSync(root, { recursive: true, force: true });
    },
  };
}

describe("embedded log", () => {
  changeLogContract(makePlace);
});

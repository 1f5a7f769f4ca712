import fs from "node:fs";
import path from "node:path";

import { capturedBefore } from "../capture/capture-state.ts";
import { FILE_INDEX } from "../capture/files/file-index.ts";
import { preflight, setWalMode } from "../capture/sqlite/preflight.ts";
import { configError } from "../config/config-error.ts";
import type { Config } from "../config/config.ts";
import { baseDirectory } from "../config/database-patterns.ts";
import { copyBytes, requireRoomForCopy } from "../observe/copy-size.ts";

/** How long an application may keep us from switching its database to WAL mode at the start. */
const SET_WAL_WAIT_MS = 5000;

/**
 * What is wrong with the databases is said before anything is made on disk. What was captured before, or found by a
 * pattern, is no mistake of the user's: it is waited for while the others are protected.
 *
 * @throws CONFIG, DATABASE_*, AGENT_RUNNING
 */
export function checkSource(config: Config): void {
  requireRoomForCopy(config.log, copyBytes(config.databases));
  const captured = capturedBefore(config.state, config.set);
  if (captured.size === 0) requireMatches(config);
  if (!fs.existsSync(path.join(config.state, FILE_INDEX))) requireTrees(config);
  for (const { name, path: file, byPattern, awaited } of config.databases) {
    if (byPattern || awaited || captured.has(name)) continue;
    if (config.capture.setWal) setWalMode(file, { waitMs: SET_WAL_WAIT_MS });
    preflight(file);
  }
}

/** A tree that was never captured and is not there is a slip of the pen; later it is waited for. */
function requireTrees({ trees }: Config): void {
  const missing = trees.find(({ path: root }) => !fs.existsSync(root));
  if (!missing) return;
  throw configError(
    `${missing.path} is not there, nothing can be captured of it`,
    "Correct the path of this file tree, or make the directory.",
  );
}

/** At the very first start a pattern that leads nowhere, or nothing to capture at all, is a slip of the pen. */
function requireMatches({ databases, patterns, trees }: Config): void {
  const astray = patterns.find((pattern) => !fs.existsSync(baseDirectory(pattern)));
  const wrong = astray ?? (databases.length + trees.length === 0 ? patterns[0] : undefined);
  if (!wrong) return;
  throw configError(
    `${wrong.where}: nothing matches ${wrong.pattern}`,
    "Correct the pattern, or start the application once.",
  );
}

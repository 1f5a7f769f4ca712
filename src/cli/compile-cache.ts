import fs from "node:fs";
import { enableCompileCache } from "node:module";
import path from "node:path";

import { cacheRoot } from "../runtime/cache-root.ts";

/**
 * Keeps compiled code from command to command: half of what a short one takes is compiling. Whoever starts Node can choose
 * another place (NODE_COMPILE_CACHE) or none (NODE_DISABLE_COMPILE_CACHE). Code comes from there, so it must be this
 * user's own: not that of whose home `sudo` has kept.
 */
export function keepCompiledCode(): void {
  const { HOME, NODE_COMPILE_CACHE } = process.env;
  if (NODE_COMPILE_CACHE || !HOME) return;
  try {
    if (fs.statSync(HOME).uid !== process.getuid?.()) return;
    fs.mkdirSync(cacheRoot(), { recursive: true, mode: 0o700 });
    enableCompileCache(path.join(cacheRoot(), "node"));
  } catch {
    // Without it everything takes a little longer.
  }
}

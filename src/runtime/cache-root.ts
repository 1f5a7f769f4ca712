import os from "node:os";
import path from "node:path";

/** Where this user keeps what can be made again: `$XDG_CACHE_HOME` or `~/.cache`, and in it what is Tidemark's. */
export function cacheRoot(environment: NodeJS.ProcessEnv = process.env): string {
  const root = environment["XDG_CACHE_HOME"] || path.join(environment["HOME"] || os.homedir(), ".cache");
  return path.join(root, "tidemark");
}

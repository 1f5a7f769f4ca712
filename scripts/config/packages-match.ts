// Exit code 0 when node_modules holds exactly what the lock file names. Usage: packages-match.ts ROOT run|all
import { readFileSync } from "node:fs";
import { join } from "node:path";

interface LockedPackage {
  readonly integrity?: string;
  readonly dev?: boolean;
  readonly devOptional?: boolean;
  readonly optional?: boolean;
}

function lockedPackages(file: string): Map<string, LockedPackage> {
  const lock = JSON.parse(readFileSync(file, "utf8")) as { packages: Record<string, LockedPackage> };
  return new Map(Object.entries(lock.packages).filter(([path]) => path !== ""));
}

const [root = ".", scope = "all"] = process.argv.slice(2);
const wanted = lockedPackages(join(root, "package-lock.json"));
const installed = lockedPackages(join(root, "node_modules", ".package-lock.json"));

const missing = [...wanted].some(([path, { integrity, optional, dev, devOptional }]) => {
  const needed = !optional && (scope === "all" || !(dev || devOptional));
  return needed && installed.get(path)?.integrity !== integrity;
});
process.exit(missing ? 1 : 0);

import fs from "node:fs";
import path from "node:path";

/** With symbolic links resolved as far as the path exists. */
export function realPath(file: string): string {
  try {
    return fs.realpathSync(file);
  } catch {
    const parent = path.dirname(file);
    return parent === file ? file : path.join(realPath(parent), path.basename(file));
  }
}

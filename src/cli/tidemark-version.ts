import fs from "node:fs";

/** Of package.json, which lies two folders above both src/cli and dist/cli. */
export function tidemarkVersion(): string {
  const text = fs.readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

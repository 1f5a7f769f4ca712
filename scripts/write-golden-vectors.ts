/**
 * Writes the missing proto/golden/NAME.bin for every NAME.json. A vector that exists is never written again: what it
 * records is in logs and archives by now, so an encoding that changes needs a new format version and new vectors.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { bytesOfVector, type GoldenVector } from "./golden-vector.ts";

const directory = path.resolve(process.argv[2] ?? path.join(import.meta.dirname, "../proto/golden"));
const names = readdirSync(directory).filter((name) => name.endsWith(".json"));
let differing = 0;
for (const name of names.toSorted()) differing += writeVector(path.join(directory, name)) ? 0 : 1;
process.exitCode = differing === 0 ? 0 : 1;

/** False when the vector exists and would be another now. */
function writeVector(jsonPath: string): boolean {
  const binaryPath = jsonPath.replace(/json$/, "bin");
  const vector = JSON.parse(readFileSync(jsonPath, "utf8")) as GoldenVector;
  const bytes = bytesOfVector(vector);
  if (!existsSync(binaryPath)) {
    writeFileSync(binaryPath, bytes, { flag: "wx" });
    console.log(`${path.basename(binaryPath)}: written, ${bytes.length} bytes`);
    return true;
  }
  const same = Buffer.compare(bytes, readFileSync(binaryPath)) === 0;
  if (same || vector.compressed) {
    console.log(`${path.basename(binaryPath)}: exists, left alone`);
    return true;
  }
  console.error(
    `${path.basename(binaryPath)}: exists and differs; not overwritten. Raise the format version and add a vector.`,
  );
  return false;
}

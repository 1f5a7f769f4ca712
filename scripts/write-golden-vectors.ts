/**
 * Writes the missing NAME.bin for every NAME.json of proto/golden and proto/golden/repository. A vector that exists is never written again: what it
 * records is in logs and archives by now, so an encoding that changes needs a new format version and new vectors.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { bytesOfObject, type GoldenObject } from "./golden-object.ts";
import { bytesOfVector, type GoldenVector } from "./golden-vector.ts";

const directory = path.resolve(process.argv[2] ?? path.join(import.meta.dirname, "../proto/golden"));
const repository = path.join(directory, "repository");
let differing = 0;
for (const json of vectorsIn(directory)) {
  const vector = JSON.parse(readFileSync(json, "utf8")) as GoldenVector;
  differing += writeVector(json, vector, bytesOfVector(vector)) ? 0 : 1;
}
for (const json of vectorsIn(repository)) {
  const vector = JSON.parse(readFileSync(json, "utf8")) as GoldenObject;
  differing += writeVector(json, vector, bytesOfObject(vector, repository)) ? 0 : 1;
}
process.exitCode = differing === 0 ? 0 : 1;

function vectorsIn(folder: string): string[] {
  const names = readdirSync(folder).filter((name) => name.endsWith(".json"));
  return names.toSorted().map((name) => path.join(folder, name));
}

/** False when the vector exists and would be another now. */
function writeVector(jsonPath: string, { compressed }: { compressed?: boolean }, bytes: Uint8Array): boolean {
  const binaryPath = jsonPath.replace(/json$/, "bin");
  if (!existsSync(binaryPath)) {
    writeFileSync(binaryPath, bytes, { flag: "wx" });
    console.log(`${path.basename(binaryPath)}: written, ${bytes.length} bytes`);
    return true;
  }
  const same = Buffer.compare(bytes, readFileSync(binaryPath)) === 0;
  if (same || compressed) {
    console.log(`${path.basename(binaryPath)}: exists, left alone`);
    return true;
  }
  console.error(
    `${path.basename(binaryPath)}: exists and differs; not overwritten. Raise the format version and add a vector.`,
  );
  return false;
}

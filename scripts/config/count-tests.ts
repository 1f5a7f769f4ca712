// Prints "N passed, N failed" from vitest's JSON results. A test file that could not even be loaded counts as one failure.
import { readFileSync } from "node:fs";

interface TestFile {
  readonly status: string;
  readonly assertionResults: readonly { readonly status: string }[];
}

interface Results {
  readonly success: boolean;
  readonly testResults: readonly TestFile[];
}

function readResults(path: string): Results {
  try {
    return JSON.parse(readFileSync(path, "utf8")) as Results;
  } catch (error) {
    console.error(`no test results: ${error instanceof Error ? error.message : String(error)}`);
    return { success: false, testResults: [] };
  }
}

const { success, testResults } = readResults(process.argv[2] ?? "");
const count = (status: string): number =>
  testResults.flatMap((file) => file.assertionResults).filter((test) => test.status === status).length;
const unloadable = testResults.filter(
  (file) => file.status === "failed" && !file.assertionResults.some((test) => test.status === "failed"),
).length;
const skipped = count("skipped") + count("pending") + count("todo");

const passed = count("passed");
// Something outside every test went wrong (an unhandled rejection, no results at all): never report that as zero failures.
const failed = Math.max(count("failed") + unloadable, success ? 0 : 1);
if (skipped > 0) console.log(`${skipped} skipped`);
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 && passed > 0 ? 0 : 1);

import { execFile } from "node:child_process";
import { cp, mkdtemp, mkdir, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

const SCRIPTS = resolve(import.meta.dirname, "../../scripts");

interface Result {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<Result> {
  return new Promise((done) => {
    const child = execFile(command, args, { env, timeout: 50_000 }, (_error, stdout, stderr) => {
      done({ code: child.exitCode, stdout, stderr });
    });
  });
}

let directory = "";
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "tidemark-scripts-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const node = (script: string, ...args: string[]): Promise<Result> =>
  run(process.execPath, [join(SCRIPTS, "config", script), ...args]);

async function countedFrom(results: unknown): Promise<Result> {
  const file = join(directory, "tests.json");
  await writeFile(file, JSON.stringify(results));
  return node("count-tests.ts", file);
}

const testFile = (status: string, ...tests: string[]): unknown => ({
  status,
  assertionResults: tests.map((each) => ({ status: each })),
});

test("the last line of scripts/test counts what passed and failed", async () => {
  const good = await countedFrom({ success: true, testResults: [testFile("passed", "passed", "passed")] });
  expect(good).toMatchObject({ code: 0, stdout: "2 passed, 0 failed\n" });
  const bad = await countedFrom({ success: false, testResults: [testFile("failed", "passed", "failed", "failed")] });
  expect(bad).toMatchObject({ code: 1, stdout: "1 passed, 2 failed\n" });
});

test("a test file that cannot be loaded, an error outside tests, and no results are failures", async () => {
  const unloadable = { success: false, testResults: [testFile("passed", "passed"), testFile("failed")] };
  expect(await countedFrom(unloadable)).toMatchObject({ code: 1, stdout: "1 passed, 1 failed\n" });
  const unhandled = { success: false, testResults: [testFile("passed", "passed")] };
  expect(await countedFrom(unhandled)).toMatchObject({ code: 1, stdout: "1 passed, 1 failed\n" });
  expect(await node("count-tests.ts", join(directory, "missing.json"))).toMatchObject({
    code: 1,
    stdout: "0 passed, 1 failed\n",
  });
  expect(await countedFrom({ success: true, testResults: [] })).toMatchObject({ code: 1 });
});

async function packagesMatch(installed: object, scope: "run" | "all"): Promise<number | null> {
  const wanted = { "": {}, "node_modules/a": { integrity: "1" }, "node_modules/b": { integrity: "2", dev: true } };
  await mkdir(join(directory, "node_modules"), { recursive: true });
  await writeFile(join(directory, "package-lock.json"), JSON.stringify({ packages: wanted }));
  await writeFile(join(directory, "node_modules/.package-lock.json"), JSON.stringify({ packages: installed }));
  return (await node("packages-match.ts", directory, scope)).code;
}

test("packages that npm installed by hand are recognised, for running and for testing", async () => {
  const runOnly = { "node_modules/a": { integrity: "1" } };
  expect(await packagesMatch(runOnly, "run")).toBe(0);
  expect(await packagesMatch(runOnly, "all")).toBe(1);
  expect(await packagesMatch({ ...runOnly, "node_modules/b": { integrity: "2" } }, "all")).toBe(0);
  expect(await packagesMatch({ "node_modules/a": { integrity: "other" } }, "run")).toBe(1);
});

/** Runs shell code as if it stood in a script of ours, with nothing in PATH but what is named. */
async function shell(code: string, ...programs: string[]): Promise<Result> {
  const bin = join(directory, "bin");
  await mkdir(bin, { recursive: true });
  for (const program of ["dirname", "readlink", "mktemp", "cat", "rm", ...programs]) {
    await symlink(`/usr/bin/${program}`, join(bin, program));
  }
  return run("/bin/sh", ["-euc", `. "${SCRIPTS}/setup.sh"; ${code}`, join(SCRIPTS, "test")], { PATH: bin });
}

test("without apt-get scripts/test names what to install", async () => {
  const result = await shell(`. "${SCRIPTS}/test-packages.sh"; install_test_packages`);
  expect(result.code).toBe(1);
  expect(result.stderr).toMatch(/no apt-get here\. Install by hand what the tests run: .*\bsqlite3\b/);
  expect(result.stdout).toBe("");
});

test("without Node and without npm the set-up says what is missing", async () => {
  const result = await shell('root="$PWD/nowhere"; find_node || install_node');
  expect(result).toMatchObject({ code: 1, stdout: "" });
  expect(result.stderr).toMatch(/needs Node 24 or newer, or npm to fetch it/);
});

test("the quickstart explains itself and refuses what it does not know", async () => {
  const help = await run(join(SCRIPTS, "quickstart"), ["--help"]);
  expect(help).toMatchObject({ code: 0, stderr: "" });
  expect(help.stdout).toMatch(/^Usage: scripts\/quickstart \[DATABASE\]/);
  const unknown = await run(join(SCRIPTS, "quickstart"), ["--fast"]);
  expect(unknown).toMatchObject({ code: 2, stdout: "" });
  expect(unknown.stderr).toMatch(/unexpected --fast/);
});

test("packages are never installed through a link: npm would empty what it leads to", async () => {
  const checkout = join(directory, "checkout");
  const elsewhere = join(directory, "elsewhere");
  await cp(SCRIPTS, join(checkout, "scripts"), { recursive: true });
  await writeFile(join(checkout, "package-lock.json"), JSON.stringify({ packages: { "node_modules/a": {} } }));
  await mkdir(elsewhere);
  await writeFile(join(elsewhere, "kept"), "");
  await symlink(elsewhere, join(checkout, "node_modules"));
  const { code, stderr } = await run(join(checkout, "scripts/tidemark"), ["--version"]);
  expect(code).toBe(1);
  expect(stderr).toContain(`node_modules is a link to ${elsewhere}`);
  expect(await readdir(elsewhere)).toEqual(["kept"]);
});

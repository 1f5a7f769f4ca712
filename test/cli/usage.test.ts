import { expect, test, vi } from "vitest";

import { CliScene } from "../support/cli-scene.ts";

// Every step is a process of its own; many at once are slow on a busy machine.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

const NESTED = ["base create", "key list", "key rotate", "key add", "key remove"];
const COMMANDS = [
  "run",
  "capture",
  "replica",
  "restore",
  "promote",
  "switchover",
  "rejoin",
  "history",
  "mark",
  "marks",
  "sync",
  "bases",
  "log",
  "status",
  "check",
  "verify",
  "expire",
];

test("the help lists the commands there are, and no others", async () => {
  await using scene = new CliScene();
  const { code, stdout } = await scene.run(["--help"]);
  expect(code).toBe(0);
  const listed = stdout.split("Commands:")[1]?.split("Exit codes:")[0] ?? "";
  const names = [...listed.matchAll(/^ {2}([a-z]+)/gm)].map(([, name]) => name);
  expect(names).toEqual([...COMMANDS, "base", "key", "help"]);
});

test.each([...COMMANDS, ...NESTED])("%s --help tells its flags, with examples", async (command) => {
  await using scene = new CliScene();
  const { code, stdout } = await scene.run([...command.split(" "), "--help"]);
  expect(code).toBe(0);
  for (const flag of ["--db", "--standby", "--log", "--state", "--config", "--set", "--repository", "--json"])
    expect(stdout).toContain(flag);
  expect(stdout).toMatch(new RegExp(`Examples:\n  tidemark ${command}`));
  const readsRepositories = ["restore", "log", "marks"].includes(command);
  expect(stdout.includes("--no-log")).toBe(readsRepositories);
});

test("--version is the package's", async () => {
  await using scene = new CliScene();
  const { code, stdout } = await scene.run(["--version"]);
  expect({ code, stdout }).toEqual({ code: 0, stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) as string });
});

test("no command: the help, and exit code 2", async () => {
  await using scene = new CliScene();
  const { code, stderr } = await scene.run([]);
  expect(code).toBe(2);
  expect(stderr).toContain("Commands:");
  expect(stderr).toContain("USAGE: no command given.");
});

test.each([
  [["restor"], "unknown command 'restor'", "Did you mean restore?"],
  [["failback"], "unknown command 'failback'", "--help"],
  [["run", "--stanby", "x"], "unknown option '--stanby'", "Did you mean --standby?"],
  [["mark"], "missing required argument 'name'", "tidemark mark --help"],
  [["restore"], "required option '--target <dir>' not specified", "tidemark restore --help"],
  [["restore", "--target", "x", "--check", "never"], "Allowed choices are full, quick", "--help"],
  [["status", "extra"], "too many arguments", "--help"],
  [["sync", "--applied", "0"], "0 is no number of standbys", "1 or more"],
  [["sync", "--timeout", "10"], '"10" is no duration', "with a unit"],
  [["mark", "two words"], '"two words" is no name for a mark', "letters"],
])("%j is a usage error", async (args, message, hint) => {
  await using scene = new CliScene();
  const refused = await scene.refused(args);
  expect(refused).toMatchObject({ exit: 2, code: "USAGE" });
  expect(refused.message).toContain(message);
  expect(refused.hint).toContain(hint);
  const human = await scene.run(args);
  expect(human.code).toBe(2);
  expect(human.stderr).toContain(`USAGE: ${refused.message}`);
  expect(human.stderr).toContain(refused.hint);
});

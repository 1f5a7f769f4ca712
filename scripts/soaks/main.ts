/** Runs one scenario: its figures as a line of JSON on stdout, as a table on stderr. Ends with 1 when something was wrong. */
import { parseArgs } from "node:util";

import { crashes } from "./crashes.ts";
import { damage } from "./damage.ts";
import { firstCopy } from "./first-copy.ts";
import { many } from "./many.ts";
import { order } from "./order.ts";
import { restores } from "./restores.ts";
import { retention } from "./retention.ts";
import { scrub } from "./scrub.ts";
import { torture } from "./torture.ts";
import { parseOptionsOf, type Outcome, type Scenario } from "./scenario.ts";

const SCENARIOS: Readonly<Record<string, Scenario>> = {
  crashes,
  damage,
  "first-copy": firstCopy,
  many,
  order,
  restores,
  retention,
  scrub,
  torture,
};

function help(): string {
  const lines = ["Usage: scripts/soak SCENARIO [--OPTION VALUE…]", ""];
  for (const [name, { summary, options }] of Object.entries(SCENARIOS)) {
    lines.push(`${name}: ${summary}`);
    for (const [option, { default: value, help: text }] of Object.entries(options)) {
      lines.push(`  --${`${option} ${value}`.padEnd(22)} ${text}`);
    }
  }
  return `${lines.join("\n")}\n`;
}

function print(name: string, { ok, problems, figures, rows }: Outcome): void {
  const width = Math.max(...rows.map(([title]) => title.length));
  for (const [title, value] of rows) process.stderr.write(`${title.padEnd(width)}  ${value}\n`);
  for (const problem of problems) process.stderr.write(`PROBLEM: ${problem}\n`);
  process.stdout.write(`${JSON.stringify({ scenario: name, ok, problems, ...figures })}\n`);
}

async function main(): Promise<void> {
  const [name = "", ...args] = process.argv.slice(2);
  const scenario = SCENARIOS[name];
  if (!scenario || args.includes("--help")) {
    process.stdout.write(help());
    process.exitCode = scenario || name === "--help" ? 0 : 2;
    return;
  }
  const { values } = parseArgs({ args, options: parseOptionsOf(scenario) });
  const outcome = await scenario.run(values as Record<string, string>);
  print(name, outcome);
  if (!outcome.ok) process.exitCode = 1;
}

await main();

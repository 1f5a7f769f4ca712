import type { Command } from "commander";

import { requireMarkName } from "../observe/agent-control.ts";
import { agentPlaces, askFirst } from "./ask-agents.ts";
import { type Cli, oneShot } from "./cli.ts";
import { durationOption, type SetOptions, setCommand, settingsFor } from "./set-options.ts";
import { exceptFor } from "./sync.ts";

interface MarkOptions extends SetOptions {
  readonly timeout: number;
}

interface Made {
  readonly offset: number;
  readonly at: string;
  /** Names of databases that cannot be captured just now, if any. */
  readonly without?: readonly string[];
}

export function markCommand(cli: Cli): Command {
  return setCommand({
    name: "mark",
    summary: "give the current offset a name",
    description:
      "Names the offset that contains every commit made before this call, for `restore --to mark:NAME`. Asks the running capture agent.",
    examples: ["tidemark mark before-upgrade --standby /mnt/standby", "tidemark mark before-upgrade -c tidemark.yml"],
  })
    .argument("<name>", "name of the mark")
    .option("--timeout <duration>", "how long to wait for the agent", durationOption, 60_000)
    .action((name: string, options: MarkOptions) => oneShot(cli, () => mark(cli, name, options)));
}

async function mark(cli: Cli, name: string, options: MarkOptions): Promise<void> {
  const body = { name: requireMarkName(name) };
  const settings = await settingsFor(cli, "client", options);
  const request = { method: "POST", path: "/mark", body, timeoutMs: options.timeout, signal: cli.signal } as const;
  const made = (await askFirst(agentPlaces(settings), request)) as Made;
  const text = `${name} is offset ${made.offset}, ${made.at}${exceptFor(made.without)}`;
  await cli.print(options.json ? JSON.stringify(made) : text);
}

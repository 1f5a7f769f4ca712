import { Command } from "commander";

import { formatDuration, formatSize } from "../config/units.ts";
import { agentPlaces, askFirst } from "./ask-agents.ts";
import { type Cli, oneShot } from "./cli.ts";
import { durationOption, type SetOptions, setCommand, settingsFor } from "./set-options.ts";

interface CreateOptions extends SetOptions {
  readonly timeout: number;
}

interface Made {
  readonly bases: readonly {
    readonly location: string;
    readonly offset: number;
    readonly at: string;
    readonly bytesNew: number;
    readonly durationMs: number;
  }[];
}

export function baseCommand(cli: Cli): Command {
  const create = setCommand({
    name: "create",
    summary: "make a base in every repository now",
    description:
      "Makes a base of the standby in every repository of the set, reads back what it wrote, and returns when it is there. Asks the running replica.",
    examples: ["tidemark base create --standby /mnt/standby", "tidemark base create -c tidemark.yml --json"],
  })
    .option("--timeout <duration>", "how long to wait for the agent", durationOption, 24 * 60 * 60 * 1000)
    .action((options: CreateOptions) => oneShot(cli, () => createBase(cli, options)));
  return new Command("base").description("bases: full images of the set in a repository").addCommand(create);
}

async function createBase(cli: Cli, options: CreateOptions): Promise<void> {
  const settings = await settingsFor(cli, "client", options);
  const request = { method: "POST", path: "/base", body: {}, timeoutMs: options.timeout, signal: cli.signal } as const;
  const made = (await askFirst(agentPlaces(settings).toReversed(), request)) as Made;
  if (options.json) return cli.print(JSON.stringify(made));
  for (const { location, offset, at, bytesNew, durationMs } of made.bases) {
    const cost = `${formatSize(bytesNew)} new, ${formatDuration(durationMs)}`;
    await cli.print(`${location}: base at offset ${offset}, ${at} (${cost})`);
  }
}

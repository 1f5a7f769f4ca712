import type { Command } from "commander";

import { configError } from "../config/config-error.ts";
import type { RepositoryConfig } from "../config/config.ts";
import type { ExpireReport } from "../repository/expire/report.ts";
import type { Repository } from "../repository/repository.ts";
import { TidemarkError } from "../runtime/errors.ts";
import { type Cli, oneShot } from "./cli.ts";
import { type AppliedRules, expireJson, expireText } from "./expire-text.ts";
import { type SetOptions, setCommand, settingsFor } from "./set-options.ts";

interface ExpireFlags extends SetOptions {
  readonly confirm?: boolean;
}

export function expireCommand(cli: Cli): Command {
  return setCommand({
    name: "expire",
    summary: "remove from the repositories what the keep rules do not keep",
    description:
      "Tells of each base why it stays, or that it goes, and what that frees; with --confirm it does it. Two verified bases stay always. " +
      "What goes is marked first; a later run, a day after that at the earliest, removes it, unless something refers to it by then. " +
      "So run it every day, or let the replica do it (expire: auto). Ends with 6 while somebody restores or makes a base.",
    examples: [
      "tidemark expire -c tidemark.yml",
      "tidemark expire -c tidemark.yml --confirm",
      "tidemark expire --repository /mnt/backup --json",
    ],
  })
    .option("--confirm", "do it; without it nothing is changed")
    .action((options: ExpireFlags) => oneShot(cli, () => expire(cli, options)));
}

/** What one repository fails of does not keep the others from their turn. */
async function expire(cli: Cli, options: ExpireFlags): Promise<void> {
  const settings = await settingsFor(cli, "client", options);
  if (settings.repositories.length === 0) {
    throw configError(
      "tidemark expire does not know where the repository is",
      "Give --repository DIR, or repository: in tidemark.yml.",
    );
  }
  const { readRepositories } = await import("../compose/repositories.ts");
  const confirm = options.confirm ?? false;
  const done: object[] = [];
  const failures: TidemarkError[] = [];
  for (const config of settings.repositories) {
    try {
      await readRepositories({ ...settings, repositories: [config] }, cli, async (repository) => {
        const rules = await rulesOf(config);
        const report = await expireOne(cli, repository, { config, rules, confirm });
        if (options.json) done.push({ location: repository.location, ...expireJson(report, rules) });
        else for (const line of expireText(repository.location, report, rules)) await cli.print(line);
      });
    } catch (error) {
      if (!(error instanceof TidemarkError) || cli.signal.aborted) throw error;
      failures.push(error);
    }
  }
  const [first, ...others] = failures;
  if (options.json && done.length > 0)
    await cli.print(JSON.stringify({ ok: !first, confirmed: confirm, repositories: done }));
  for (const { code, message } of others) cli.note(`${code}: ${message}`);
  if (first) throw first;
}

async function rulesOf({ keep }: RepositoryConfig): Promise<AppliedRules> {
  const { DEFAULT_KEEP } = await import("../repository/retention.ts");
  return { keep: keep ?? DEFAULT_KEEP, isDefault: keep === undefined };
}

interface Asked {
  readonly config: RepositoryConfig;
  readonly rules: AppliedRules;
  readonly confirm: boolean;
}

async function expireOne(cli: Cli, repository: Repository, { config, rules, confirm }: Asked): Promise<ExpireReport> {
  const { expireRepository } = await import("../repository/expire/expire.ts");
  const rewrites = config.objectLock === undefined;
  return expireRepository(repository, { rules: rules.keep, confirm, rewrites, clock: cli.clock, signal: cli.signal });
}

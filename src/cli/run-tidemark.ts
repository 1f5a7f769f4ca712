import { CommanderError } from "commander";

import { EXIT, hasCode, TidemarkError, toTidemarkError } from "../runtime/errors.ts";
import { type Cli, createCli } from "./cli.ts";
import { createProgram } from "./program.ts";

/** Runs one command line and ends the process with its exit code. The only place that tells an error. */
export async function runTidemark(args: readonly string[]): Promise<void> {
  const cli = createCli();
  const code = await exitCodeOf(cli, args);
  process.exit(code);
}

async function exitCodeOf(cli: Cli, args: readonly string[]): Promise<number> {
  try {
    const program = await createProgram(cli, args);
    await program.parseAsync(args, { from: "user" });
    return cli.exitCode;
  } catch (thrown) {
    if (thrown instanceof CommanderError && thrown.exitCode === 0) return EXIT.ok;
    const error = thrown instanceof CommanderError ? usageError(thrown, args) : toTidemarkError(thrown);
    if (error.code === "INTERRUPTED" && cli.signal.aborted && !wantsJson(args)) return EXIT.interrupted;
    // The error itself comes last: that is the line scripts read.
    if (cli.environment["TIDEMARK_LOG"] === "debug" || hasCode(error, "INTERNAL")) cli.note(stackOf(error));
    cli.note(wantsJson(args) ? asJson(error) : asText(error));
    return error.exitCode;
  }
}

/** Commander's words, in our form: `error: unknown option '--stanby'\n(Did you mean --standby?)`. */
function usageError(error: CommanderError, args: readonly string[]): TidemarkError {
  if (error.code === "commander.help") {
    return new TidemarkError("USAGE", "no command given", { hint: "`tidemark --help` lists them." });
  }
  const [first = "", second] = error.message.replace(/^error: /, "").split("\n");
  const suggestion = second === undefined ? "" : `${second.replace(/^\(|\)$/g, "")} `;
  const [command = ""] = args;
  const help =
    error.code === "commander.unknownCommand" || command.startsWith("-") ? "tidemark" : `tidemark ${command}`;
  return new TidemarkError("USAGE", first, {
    hint: `${suggestion}\`${help} --help\` shows what there is.`,
    cause: error,
  });
}

function wantsJson(args: readonly string[]): boolean {
  const end = args.indexOf("--");
  return (end < 0 ? args : args.slice(0, end)).includes("--json");
}

function asJson({ code, message, hint }: TidemarkError): string {
  return JSON.stringify({ ok: false, code, message, hint });
}

function asText({ code, message, hint }: TidemarkError): string {
  return `${code}: ${message.replace(/[.\s]+$/, "")}. ${hint}`;
}

function stackOf(error: TidemarkError): string {
  const cause = error.cause instanceof Error ? error.cause : error;
  return cause.stack ?? String(cause);
}

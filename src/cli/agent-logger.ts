import { type Level, type Logger, pino, stdTimeFunctions } from "pino";

import { configError } from "../config/config-error.ts";
import type { Environment } from "../config/config-file.ts";
import { nearestName } from "../config/nearest-name.ts";

const LEVELS: readonly (Level | "silent")[] = ["trace", "debug", "info", "warn", "error", "fatal", "silent"];
const STDERR = 2;

/**
 * On stderr: readable on a terminal, where `beforeLine` may clear what is drawn there; one JSON object a line otherwise.
 *
 * @throws CONFIG (TIDEMARK_LOG)
 */
export async function createAgentLogger(environment: Environment, beforeLine: () => void): Promise<Logger> {
  const options = { level: levelOf(environment), timestamp: stdTimeFunctions.isoTime };
  if (!process.stderr.isTTY) return pino(options, pino.destination({ dest: STDERR, sync: true }));
  const { default: pretty } = await import("pino-pretty");
  const stream = pretty({
    destination: STDERR,
    sync: true,
    ignore: "pid,hostname,part",
    translateTime: "SYS:HH:MM:ss.l",
    singleLine: true,
  });
  const write = (line: string): void => {
    beforeLine();
    stream.write(line);
  };
  return pino(options, { write });
}

function levelOf(environment: Environment): string {
  const given = environment["TIDEMARK_LOG"] || "info";
  if (LEVELS.some((level) => level === given)) return given;
  const near = nearestName(given, LEVELS);
  const question = near === undefined ? "" : `; did you mean ${near}?`;
  throw configError(
    `TIDEMARK_LOG: ${JSON.stringify(given)} is no log level${question}`,
    `Use one of ${LEVELS.join(", ")}.`,
  );
}

import { EXIT, toTidemarkError } from "../runtime/errors.ts";

/** One thing that `check` looked at. */
export interface Finding {
  readonly severity: "ok" | "warn" | "fail";
  /** What was looked at when it is well; the error's code when it is not. */
  readonly code: string;
  readonly message: string;
  /** The next step; empty when there is none to take. */
  readonly hint: string;
  /** The exit code that a failure leads to. */
  readonly exitCode: number;
}

export function ok(code: string, message: string): Finding {
  return { severity: "ok", code, message, hint: "", exitCode: EXIT.ok };
}

export function warn(code: string, message: string, hint: string): Finding {
  return { severity: "warn", code, message, hint, exitCode: EXIT.ok };
}

export function fail(error: unknown): Finding {
  const { code, message, hint, exitCode } = toTidemarkError(error);
  return {
    severity: "fail",
    code,
    message,
    hint,
    exitCode: exitCode === EXIT.unreachable ? EXIT.unreachable : EXIT.usage,
  };
}

/** The finding of a look that throws what is wrong. */
export async function look(code: string, message: string, attempt: () => unknown): Promise<Finding> {
  try {
    await attempt();
    return ok(code, message);
  } catch (error) {
    return fail(error);
  }
}

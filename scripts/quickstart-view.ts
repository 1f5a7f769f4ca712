/** The live view: a few lines redrawn in place on a terminal, one plain line a second otherwise. */

export interface ViewState {
  readonly source: string;
  readonly log: string;
  readonly standby: string;
  readonly reader: string;
}

const LABELS = ["source", "log", "standby", "reader"] as const;

export interface View {
  /** Prints a line that stays. */
  readonly say: (line: string) => void;
  readonly show: (state: ViewState) => void;
  /** The next `show` starts below what was drawn so far. */
  readonly settle: () => void;
}

export function openView(out: NodeJS.WriteStream): View {
  return out.isTTY && process.env["TERM"] !== "dumb" ? terminalView(out) : plainView(out);
}

function plainView(out: NodeJS.WriteStream): View {
  const say = (line: string): void => void out.write(`${line}\n`);
  const show = (state: ViewState): void => say(LABELS.map((label) => `${label}: ${state[label]}`).join(" | "));
  return { say, show, settle: () => undefined };
}

function terminalView(out: NodeJS.WriteStream): View {
  let drawn = 0;
  // Cut, never wrapped: a wrapped line would be counted as one and leave its rest behind.
  const fit = (line: string): string => line.slice(0, Math.max((out.columns || 80) - 1, 20));
  const show = (state: ViewState): void => {
    const lines = LABELS.map((label) => fit(`  ${label.padEnd(9)}${state[label]}`));
    const back = drawn > 0 ? `\u001B[${drawn}A` : "";
    out.write(back + lines.map((line) => `\r\u001B[2K${line}\n`).join(""));
    drawn = lines.length;
  };
  const settle = (): void => void (drawn = 0);
  const say = (line: string): void => {
    settle();
    out.write(`${line}\n`);
  };
  return { say, show, settle };
}

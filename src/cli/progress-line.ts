const REDRAW_MS = 100;

export interface Progress {
  readonly phase: string;
  readonly done: number;
  readonly total: number;
}

export interface ProgressLine extends Disposable {
  readonly show: (progress: Progress) => void;
  readonly clear: () => void;
}

/** One line on stderr, drawn again in place; nothing when stderr is no terminal. */
export function progressLine(monotonic: () => number): ProgressLine {
  const terminal = process.stderr.isTTY && process.env["TERM"] !== "dumb";
  let drawnMs = -Infinity;
  const clear = (): void => {
    if (terminal && drawnMs > -Infinity) process.stderr.write("\r\u001B[2K");
    drawnMs = -Infinity;
  };
  const show = ({ phase, done, total }: Progress): void => {
    const nowMs = monotonic();
    if (!terminal || nowMs - drawnMs < REDRAW_MS) return;
    drawnMs = nowMs;
    const part = total > 0 ? Math.min(1, done / total) : 0;
    const filled = Math.round(part * 24);
    process.stderr.write(
      `\r\u001B[2K${phase.padEnd(10)} ${"█".repeat(filled)}${"·".repeat(24 - filled)} ${Math.floor(part * 100)} %`,
    );
  };
  return { show, clear, [Symbol.dispose]: clear };
}

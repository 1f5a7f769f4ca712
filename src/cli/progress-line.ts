import { Pace, type Progress } from "./progress-pace.ts";

const REDRAW_MS = 100;

export interface ProgressLine extends Disposable {
  readonly show: (progress: Progress) => void;
  readonly clear: () => void;
}

/** One line on stderr, drawn again in place; nothing when stderr is no terminal. */
export function progressLine(monotonic: () => number): ProgressLine {
  const terminal = process.stderr.isTTY && process.env["TERM"] !== "dumb";
  const pace = new Pace();
  let drawnMs = -Infinity;
  const clear = (): void => {
    if (terminal && drawnMs > -Infinity) process.stderr.write("\r\u001B[2K");
    drawnMs = -Infinity;
  };
  const show = (progress: Progress): void => {
    const { phase, done, total } = progress;
    const nowMs = monotonic();
    if (!terminal || nowMs - drawnMs < REDRAW_MS) return;
    drawnMs = nowMs;
    const speed = pace.of(progress, nowMs);
    const part = total > 0 ? Math.min(1, done / total) : 0;
    const filled = Math.round(part * 24);
    process.stderr.write(
      `\r\u001B[2K${phase.padEnd(10)} ${"█".repeat(filled)}${"·".repeat(24 - filled)} ${Math.floor(part * 100)} %${speed && `  ${speed}`}`,
    );
  };
  return { show, clear, [Symbol.dispose]: clear };
}

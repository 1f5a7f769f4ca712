import type { RunningAgents } from "../compose/start-agents.ts";
import { sleep } from "../runtime/clock.ts";
import type { ProgressLine } from "./progress-line.ts";

const REDRAW_MS = 200;

/** Draws how far first copies and repairs are, until the agents are ready or end. */
export async function showCopies(agents: RunningAgents, progress: ProgressLine): Promise<void> {
  const over = new AbortController();
  Promise.race([agents.ready, agents.done]).then(
    () => over.abort(),
    () => over.abort(),
  );
  while (!over.signal.aborted) {
    const copies = agents.copies();
    if (copies.total > 0) progress.show(copies);
    else progress.clear();
    await sleep(REDRAW_MS, over.signal);
  }
  progress.clear();
}

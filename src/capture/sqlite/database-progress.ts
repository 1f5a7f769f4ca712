import type { DatabaseCaptureStatus } from "../capture-agent.ts";

type State = DatabaseCaptureStatus["state"];

/** How far the capture of one database is, for `status` and for its own parts. */
export class DatabaseProgress {
  readonly totals = { commits: 0, copies: 0, repairs: 0, seals: 0, ways: 0 };
  /** Progress of the copy or repair under way. */
  copy: { readonly done: number; readonly total: number } | undefined;
  /** When the log last held everything, ms since 1970. */
  upToDateMs: number;
  #state: State = "starting";
  #problem: string | undefined;

  constructor(upToDateMs: number) {
    this.upToDateMs = upToDateMs;
  }

  get state(): State {
    return this.#state;
  }

  get problem(): string | undefined {
    return this.#problem;
  }

  enter(state: State, problem?: string): void {
    this.#state = state;
    this.#problem = problem;
  }
}

/** What a planned change of the primary is to be like. */
export interface SwitchoverRequest {
  /** Host name or id of the standby that takes over; undefined: the first that answers. */
  readonly to: string | undefined;
  /** Also to one that is behind or does not answer just now: the application waits for it. */
  readonly force: boolean;
  readonly dryRun: boolean;
  /** How long the application may be kept from writing before everything is undone. */
  readonly timeoutMs: number;
}

/** What became of it. The first four are those of a promotion. */
export interface SwitchoverReport {
  readonly ok: true;
  readonly epoch: number;
  /** Of the record that begins the epoch. */
  readonly offset: number;
  readonly lost: { readonly offsets: 0; readonly ms: 0 };
  readonly durationMs: number;
  /** Who takes over, and how far it was when it was asked: so many events behind the log's end. */
  readonly to: {
    readonly id: string;
    readonly host: string;
    readonly standby: string;
    readonly applied: number;
    readonly behind: number;
  };
  /** How long the application could write nowhere; null when nothing was done. */
  readonly pausedMs: number | null;
  /** The new primary captures already. */
  readonly captures: boolean;
  /** Nothing was done. */
  readonly dryRun?: true;
}

export function switchoverRequest({
  to,
  force,
  dryRun,
  timeoutMs,
}: Readonly<Record<string, unknown>>): SwitchoverRequest {
  return {
    to: typeof to === "string" ? to : undefined,
    force: force === true,
    dryRun: dryRun === true,
    timeoutMs: Number(timeoutMs) || 0,
  };
}

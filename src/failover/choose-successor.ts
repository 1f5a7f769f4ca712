import type { Offset } from "../event/positions.ts";
import type { RegisteredReplica } from "../log/change-log.ts";
import { appliedBy, shownStandby } from "../log/watch-standbys.ts";
import { TidemarkError } from "../runtime/errors.ts";

export interface Wanted {
  /** Host name or id of the standby that is meant; undefined: the first that answers. */
  readonly to: string | undefined;
  /** Who has applied this answers. */
  readonly asked: Offset;
  readonly force: boolean;
  readonly nowMs: number;
}

/** Who takes over; undefined as long as nobody has answered who could. */
export function answeredBy(
  standbys: readonly RegisteredReplica[],
  { to, asked }: Pick<Wanted, "to" | "asked">,
): RegisteredReplica | undefined {
  return furthest(meant(standbys, to).filter((one) => appliedBy(one) >= asked && isReady(one)));
}

/**
 * Who is to take over when the time for answers is over. With `force` also one that is behind, or away for a moment: it gets
 * its time while the application waits.
 *
 * @throws STANDBY_MISSING, STANDBY_BEHIND, STANDBY_UNVERIFIED
 */
export function chooseSuccessor(standbys: readonly RegisteredReplica[], wanted: Wanted): RegisteredReplica {
  const answered = answeredBy(standbys, wanted);
  if (answered) return answered;
  const { to, asked, force, nowMs } = wanted;
  const candidates = meant(standbys, to);
  if (candidates.length === 0) throw missing(standbys, to);
  const likely = furthest(candidates.filter(({ position }) => position?.promotable));
  if (!likely) throw notPromotable(candidates);
  if (force) return likely;
  throw appliedBy(likely) >= asked ? unverified(likely) : behind(likely, { asked, nowMs });
}

function meant(standbys: readonly RegisteredReplica[], to: string | undefined): readonly RegisteredReplica[] {
  return standbys.filter(({ host, id }) => to === undefined || to === host || to === id);
}

function isReady({ position }: RegisteredReplica): boolean {
  return position?.promotable === true && position.verified;
}

function furthest(standbys: readonly RegisteredReplica[]): RegisteredReplica | undefined {
  return standbys.toSorted((one, other) => appliedBy(other) - appliedBy(one) || other.atMs - one.atMs)[0];
}

function missing(standbys: readonly RegisteredReplica[], to: string | undefined): TidemarkError {
  const known = standbys.map(shownStandby).join(", ");
  const message =
    to === undefined ? "no standby is known to the log" : `no standby of host or id ${to} is known to the log`;
  return new TidemarkError("STANDBY_MISSING", known === "" ? message : `${message}; known are ${known}`, {
    hint:
      to === undefined || known === ""
        ? "Start `tidemark replica` on another host and wait until it follows."
        : "Name one of these with --to.",
  });
}

function notPromotable(candidates: readonly RegisteredReplica[]): TidemarkError {
  return new TidemarkError(
    "STANDBY_MISSING",
    `none of the standbys can take over: ${candidates.map(shownStandby).join(", ")}`,
    {
      hint: "A standby that `tidemark run` keeps is part of the primary, and one of an older version does not know how. Start `tidemark replica` of this version, on another host.",
    },
  );
}

function unverified(standby: RegisteredReplica): TidemarkError {
  return new TidemarkError(
    "STANDBY_UNVERIFIED",
    `the contents of the standby ${shownStandby(standby)} are not proved to be what the log says`,
    { hint: "Let its replica repair it (`tidemark status` there), or name another one with --to." },
  );
}

function behind(standby: RegisteredReplica, { asked, nowMs }: Pick<Wanted, "asked" | "nowMs">): TidemarkError {
  const seconds = Math.max(0, Math.round((nowMs - standby.atMs) / 1000));
  const applied = appliedBy(standby);
  return new TidemarkError(
    "STANDBY_BEHIND",
    `the standby ${shownStandby(standby)} does not answer: ${seconds} s ago it had applied offset ${applied}, ${asked - applied} events before the log's end`,
    {
      hint: "Look with `tidemark status` there; start it, or wait until it has caught up. --force hands over all the same: the application waits for it, up to --timeout.",
    },
  );
}

import { type Offset, offset } from "../event/positions.ts";
import { TidemarkError } from "../runtime/errors.ts";

/** What `--to` names. */
export type RestoreTarget =
  | { readonly kind: "latest" }
  | { readonly kind: "offset"; readonly offset: Offset }
  /** ms since 1970, and what the user wrote. */
  | { readonly kind: "time"; readonly timeMs: number; readonly text: string }
  | { readonly kind: "mark"; readonly name: string };

const RFC3339 = /^(\d{4}-\d\d-\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:([Zz])|([+-])(\d\d):(\d\d))$/;
const LOCAL_TIME = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?$/;
const FORMS =
  "Write `latest`, an offset such as `812`, a time such as `2026-05-04T10:15:00Z` or `2026-05-04T12:15:00+02:00`, or `mark:NAME`.";

/** @throws TIME_INVALID for what looks like a time but is none, USAGE for anything else */
export function parseRestoreTarget(text: string): RestoreTarget {
  const given = text.trim();
  if (given === "latest") return { kind: "latest" };
  if (/^mark:./.test(given)) return { kind: "mark", name: given.slice("mark:".length) };
  if (/^\d+$/.test(given) && Number.isSafeInteger(Number(given)))
    return { kind: "offset", offset: offset(Number(given)) };
  if (/^\d{4}-/.test(given)) return { kind: "time", timeMs: parseTime(given), text: given };
  throw new TidemarkError("USAGE", `${JSON.stringify(text)} is no point to restore to`, { hint: FORMS });
}

/** RFC 3339 with a zone -> ms since 1970; fractions beyond milliseconds are cut off, as in the log. */
function parseTime(text: string): number {
  const found = RFC3339.exec(text);
  if (!found) throw LOCAL_TIME.test(text) ? withoutZone(text) : invalid(text, "it is not RFC 3339");
  const [
    ,
    date = "",
    hours = "",
    minutes = "",
    seconds = "",
    fraction = "",
    ,
    sign,
    zoneHours = "0",
    zoneMinutes = "0",
  ] = found;
  if (Number(hours) > 23 || Number(minutes) > 59) throw invalid(text, `${hours}:${minutes} is no time of day`);
  if (seconds === "60") throw invalid(text, "leap seconds are not in the log; name the second before or after");
  if (Number(seconds) > 60) throw invalid(text, `${seconds} is no second of a minute`);
  if (Number(zoneHours) > 23 || Number(zoneMinutes) > 59)
    throw invalid(text, `${sign}${zoneHours}:${zoneMinutes} is no zone`);
  const utc = `${date}T${hours}:${minutes}:${seconds}.${fraction.padEnd(3, "0").slice(0, 3)}Z`;
  const localMs = Date.parse(utc);
  // February 30 either does not parse or becomes another day.
  if (Number.isNaN(localMs) || new Date(localMs).toISOString() !== utc) throw invalid(text, `there is no ${date}`);
  const zoneMs = (Number(zoneHours) * 60 + Number(zoneMinutes)) * 60_000;
  return sign === "-" ? localMs + zoneMs : localMs - zoneMs;
}

function withoutZone(text: string): TidemarkError {
  const full = /:\d\d:\d\d/.test(text) ? text : `${text}:00`;
  const exact = full.replace(" ", "T");
  return new TidemarkError("TIME_INVALID", `the time ${text} has no zone, so it names no moment`, {
    hint: `Write ${exact}Z for UTC, or with the zone's distance from UTC: ${exact}+02:00.`,
  });
}

function invalid(text: string, evidence: string): TidemarkError {
  return new TidemarkError("TIME_INVALID", `${text} is no valid time: ${evidence}`, {
    hint: "Write RFC 3339 with a zone: 2026-05-04T10:15:00Z or 2026-05-04T12:15:00.250+02:00.",
  });
}

import type { ChangeLog } from "../log/change-log.ts";
import { type Finding, ok, warn } from "./finding.ts";

/** What a log holds, what its acknowledgements are worth, and what about its place deserves a warning. */
export async function logFindings(log: ChangeLog): Promise<Finding[]> {
  const [bounds, durability] = await Promise.all([log.bounds(), log.durability()]);
  const text = `${log.location} holds offsets ${bounds.first} to ${bounds.last}; ${durability.text}`;
  return [
    durability.survivesPowerLoss
      ? ok("LOG", text)
      : warn("LOG_DURABILITY", text, "See docs/operations.md for what an acknowledgement means."),
    ...durability.concerns.map((concern) => warn(concern.code, `${log.location}: ${concern.text}`, concern.hint)),
  ];
}

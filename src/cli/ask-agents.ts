import { type Settings, standbyState } from "../config/load-config.ts";
import { agentNotRunning, askAgent, type ControlRequest } from "../observe/control-client.ts";
import { hasCode, TidemarkError } from "../runtime/errors.ts";

/** Where agents of this set listen on this host, as far as the command knows. */
export function agentPlaces(settings: Pick<Settings, "state" | "standby">): readonly string[] {
  const { state, standby } = settings;
  const places = [state, standby === undefined ? undefined : standbyState(standby)];
  return [...new Set(places.filter((place) => place !== undefined))];
}

/**
 * Asks one place after the other until an agent there can do it.
 *
 * @throws AGENT_NOT_RUNNING naming all places when none can, and what the agent answers
 */
export async function askFirst(places: readonly string[], request: ControlRequest): Promise<unknown> {
  const refusals: TidemarkError[] = [];
  for (const place of places) {
    try {
      return await askAgent(place, request);
    } catch (error) {
      if (!hasCode(error, "AGENT_NOT_RUNNING")) throw error;
      refusals.push(error);
    }
  }
  if (places.length === 0) throw placeUnknown();
  // An agent that is there and says why it cannot is worth more than a place where none is.
  throw refusals.find((refusal) => !refusal.message.startsWith("no agent answers")) ?? agentNotRunning(places);
}

function placeUnknown(): TidemarkError {
  return new TidemarkError("CONFIG", "this does not say which set is meant", {
    hint: "Give -c FILE, --standby DIR, --state DIR or --db PATH as for the agent.",
  });
}

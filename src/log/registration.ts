import { z } from "zod";

import { offset } from "../event/positions.ts";
import { TidemarkError } from "../runtime/errors.ts";
import type { RegisteredReplica } from "./change-log.ts";

const at = z
  .number()
  .int()
  .nonnegative()
  .transform((value) => offset(value));

const schema = z.object({
  id: z.string(),
  host: z.string(),
  standby: z.string(),
  offset: at,
  atMs: z.number(),
  position: z.object({ applied: at, verified: z.boolean(), promotable: z.boolean() }).optional(),
});

/** What a standby says of itself, as it is kept beside a log. */
export function encodeRegistration(replica: RegisteredReplica): string {
  return `${JSON.stringify(replica)}\n`;
}

/** `place`: where it was found. @throws LOG_CORRUPT: nobody knows what that standby needs */
export function decodeRegistration(text: string, place: string): RegisteredReplica {
  try {
    return schema.parse(JSON.parse(text));
  } catch (cause) {
    throw new TidemarkError("LOG_CORRUPT", `${place} does not say how far a standby is`, {
      hint: "Remove it; a standby that runs says it again within a minute.",
      cause,
    });
  }
}

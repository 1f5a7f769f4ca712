import type { Msg } from "@nats-io/transport-node";
import { TidemarkError } from "../runtime/errors.ts";
import { foreignError, tooLargeError, unreachableError } from "./log-errors.ts";

/** What the server answered to a publish. */
export type Ack =
  | { readonly kind: "stored"; readonly sequence: number }
  /** The stream's last message is not the expected one: only a look at the stream tells what that means. */
  | { readonly kind: "elsewhere" }
  | { readonly kind: "refused"; readonly error: TidemarkError };

/** Error codes of the JetStream API, from errors.json of the server. */
const LOOK_FIRST = [
  // Another sequence or message id than expected. Of a record that is sent again after it landed, 2.9 to 2.11 say that it
  // is a duplicate; from 2.12 on a stream with one replica says this.
  10070,
  10071, 10164,
  // The same message id is on its way into the stream (2.10 and newer, clustered).
  10158,
];
const WRONG_STREAM = 10060;
const NO_ROOM = [10023, 10028, 10047];
const TOO_LARGE = [10052, 10053, 10054];
const NO_RESPONDERS = 503;

interface RawAck {
  readonly stream?: string;
  readonly seq?: number;
  readonly error?: {
    readonly code?: number;
    readonly err_code?: number;
    readonly description?: string;
  };
}

export function parseAck(message: Msg, sent: { location: string; bytes: number }): Ack {
  if (message.headers?.code === NO_RESPONDERS) {
    return {
      kind: "refused",
      error: unreachableError(sent.location, "no stream answers (JetStream is starting, or the stream is gone)"),
    };
  }
  const raw = parse(message);
  if (raw?.error) return refusal(raw.error, sent);
  if (typeof raw?.seq === "number") return { kind: "stored", sequence: raw.seq };
  return {
    kind: "refused",
    error: unreachableError(sent.location, "the server's acknowledgement cannot be understood"),
  };
}

function parse(message: Msg): RawAck | undefined {
  try {
    return message.json<RawAck>();
  } catch {
    return undefined;
  }
}

function refusal(error: NonNullable<RawAck["error"]>, sent: { location: string; bytes: number }): Ack {
  const { err_code: code = 0, description = "no reason given" } = error;
  if (LOOK_FIRST.includes(code)) return { kind: "elsewhere" };
  if (code === WRONG_STREAM)
    return {
      kind: "refused",
      error: foreignError(sent.location, "another stream takes its subject"),
    };
  if (TOO_LARGE.includes(code))
    return {
      kind: "refused",
      error: tooLargeError(sent.location, { bytes: sent.bytes, evidence: description }),
    };
  if (NO_ROOM.includes(code) || /maximum (bytes|messages)|no space|insufficient/i.test(description)) {
    return { kind: "refused", error: fullError(sent.location, description) };
  }
  return {
    kind: "refused",
    error: unreachableError(sent.location, `the server does not store: ${description} (${code})`),
  };
}

function fullError(location: string, description: string): TidemarkError {
  return new TidemarkError("LOG_FULL", `${location}: the stream is full: ${description}`, {
    hint: "Raise `nats.maxBytes` (or give the server more room), or trim the log; capture goes on by itself.",
  });
}

import { errnoOf, TidemarkError } from "../runtime/errors.ts";

interface Kind {
  readonly code: "STORE_UNREACHABLE" | "STORE_DENIED" | "STORE_FULL";
  readonly hint: string;
}

const CREDENTIALS =
  "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the profile, and that they may list the bucket and get, put and delete objects.";
const DENIED: Kind = { code: "STORE_DENIED", hint: CREDENTIALS };
const BUSY: Kind = { code: "STORE_UNREACHABLE", hint: "The service is busy or ill; it is tried again." };
const REGION: Kind = {
  code: "STORE_DENIED",
  hint: "Set region: to the bucket's own, and endpoint: to the service's URL.",
};

/** By the code that the service gives. */
const NAMED: Readonly<Record<string, Kind>> = {
  NoSuchBucket: { code: "STORE_DENIED", hint: "Make the bucket, or correct its name; Tidemark makes none." },
  RequestTimeTooSkewed: {
    code: "STORE_UNREACHABLE",
    hint: "The clock of this host and that of the service differ: run NTP. It is tried again with the service's time.",
  },
  PermanentRedirect: REGION,
  AuthorizationHeaderMalformed: REGION,
  IllegalLocationConstraintException: REGION,
  QuotaExceeded: { code: "STORE_FULL", hint: "Raise the quota, or keep fewer backups: `tidemark expire`." },
  InvalidObjectState: {
    code: "STORE_DENIED",
    hint: "The object is in an archive class: have the service restore it first, and choose another storageClass.",
  },
  CredentialsProviderError: { code: "STORE_DENIED", hint: `There are no credentials. ${CREDENTIALS}` },
  BadDigest: BUSY,
  RequestTimeout: BUSY,
  SlowDown: BUSY,
};

const CERTIFICATE = /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|ALTNAME/;
const NETWORK = /^(ENOTFOUND|EAI_|ECONN|ETIMEDOUT|EPIPE|EHOST|ENET|EPROTO|ERR_SSL|ERR_STREAM_PREMATURE_CLOSE)/;

/** What the SDK threw, as a store says it. */
export function s3StoreError(error: unknown, place: { readonly location: string; readonly name: string }): Error {
  const kind = kindOf(error);
  const at = `${place.location}: ${place.name}: ${textOf(error)}`;
  return new TidemarkError(kind.code, at, { hint: kind.hint, cause: error });
}

/** Name that the service gave its error: `NoSuchKey`. */
export function s3ErrorName(error: unknown): string {
  return error instanceof Error ? error.name : "";
}

export function s3StatusOf(error: unknown): number | undefined {
  const { $metadata: metadata } = (error ?? {}) as { $metadata?: { httpStatusCode?: number } };
  return metadata?.httpStatusCode;
}

function kindOf(error: unknown): Kind {
  const named = NAMED[s3ErrorName(error)];
  if (named) return named;
  const errno = errnoOf(error) ?? "";
  if (CERTIFICATE.test(errno)) {
    return {
      code: "STORE_DENIED",
      hint: "The service's certificate is not trusted: give its authority's with ca: FILE, or correct the endpoint's name.",
    };
  }
  if (NETWORK.test(errno)) {
    return {
      code: "STORE_UNREACHABLE",
      hint: "Check the endpoint, the name service and the network; it is tried again.",
    };
  }
  return byStatus(s3StatusOf(error));
}

function byStatus(status: number | undefined): Kind {
  if (status === 507) return { code: "STORE_FULL", hint: "Free space there, or keep fewer backups." };
  if (status === 301 || status === 307) return REGION;
  if (status !== undefined && status >= 400 && status < 500 && status !== 408 && status !== 429) return DENIED;
  return BUSY;
}

/** Many answers to HEAD have no body, and the SDK calls them "UnknownError". */
function textOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const status = s3StatusOf(error);
  const words = [errnoOf(error) ?? error.name, ...(status === undefined ? [] : [`(HTTP ${status})`])].join(" ");
  return error.message === "" || error.message === error.name ? words : `${words}: ${error.message}`;
}

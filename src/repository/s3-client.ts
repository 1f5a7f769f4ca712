import fs from "node:fs";
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import { rootCertificates } from "node:tls";

import { S3Client } from "@aws-sdk/client-s3";

import type { S3Place } from "../config/config.ts";
import { TidemarkError } from "../runtime/errors.ts";

const CONNECT_MS = 10_000;
/** Without a byte in either direction. */
const SILENCE_MS = 30_000;

/** Credentials are found as the AWS tools find them: environment, profile, web identity, instance. */
export function s3Client(place: S3Place, options: { readonly requests: number }): S3Client {
  // Sockets without a request on them do not keep the process alive.
  const agent = { keepAlive: true, maxSockets: options.requests + 2 };
  const { endpoint, profile, ca } = place;
  const region = place.region ?? (endpoint === undefined ? undefined : ambientRegion());
  return new S3Client({
    ...(region === undefined ? {} : { region }),
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(profile === undefined ? {} : { profile }),
    forcePathStyle: place.pathStyle,
    // RetryingStore is the one place that tries again.
    maxAttempts: 1,
    // Trailing checksums are unknown to many services. Every part goes with its Content-MD5.
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    requestHandler: {
      connectionTimeout: CONNECT_MS,
      socketTimeout: SILENCE_MS,
      httpAgent: new HttpAgent(agent),
      httpsAgent: new HttpsAgent({ ...agent, ...(ca === undefined ? {} : { ca: trusted(ca) }) }),
    },
  });
}

/** Services of one's own have regions in name only. */
function ambientRegion(): string {
  return process.env["AWS_REGION"] || process.env["AWS_DEFAULT_REGION"] || "us-east-1";
}

function trusted(file: string): string[] {
  try {
    return [...rootCertificates, fs.readFileSync(file, "utf8")];
  } catch (error) {
    throw new TidemarkError("CONFIG", `the repository's ca ${file} cannot be read`, {
      hint: "Correct the path or its permissions.",
      cause: error,
    });
  }
}

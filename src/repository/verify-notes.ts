import { decodeExpired, decodeLock, decodeVerified } from "./notes.ts";
import { isReleased } from "./object-lock.ts";
import { EXPIRED_PREFIX, LOCK_PREFIX, VERIFIED_PREFIX } from "./object-names.ts";

import type { Survey } from "./survey.ts";
import { isDamage } from "./verify-report.ts";
import type { VerifyContext } from "./verify.ts";

const NOTES = [
  { prefix: EXPIRED_PREFIX, kind: "expired", decode: decodeExpired },
  { prefix: VERIFIED_PREFIX, kind: "verified", decode: decodeVerified },
  { prefix: LOCK_PREFIX, kind: "lock", decode: decodeLock },
] as const;

/** What small objects say. Nothing is lost with one that is damaged, but it tells of the place where it lies. */
export async function verifyNotes({ repository, findings, signal }: VerifyContext, survey: Survey): Promise<void> {
  for (const { prefix, kind, decode } of NOTES) {
    for (const name of survey.names(prefix).filter((one) => !isReleased(one))) {
      try {
        await repository.objects.get<unknown>({ kind, name }, signal, decode);
      } catch (error) {
        if (!isDamage(error)) throw error;
        // A lock may have been given back since.
        if (await repository.objects.store.head(name, signal)) findings.add(name, error.message);
      }
    }
  }
}

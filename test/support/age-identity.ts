import { generateX25519Identity, identityToRecipient } from "age-encryption";

export interface AgeIdentity {
  /** The private key, as text. */
  readonly identity: string;
  /** The public key. */
  readonly recipient: string;
}

export async function newIdentity(): Promise<AgeIdentity> {
  const identity = await generateX25519Identity();
  return { identity, recipient: await identityToRecipient(identity) };
}

/** For the environment of whoever may read. */
export function readerEnvironment({ identity }: AgeIdentity): { TIDEMARK_IDENTITY: string } {
  return { TIDEMARK_IDENTITY: identity };
}

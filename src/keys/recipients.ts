import { configError } from "../config/config-error.ts";

/** An age file that whoever holds one of the recipients' identities can open. @throws CONFIG */
export async function wrapForRecipients(content: Uint8Array, recipients: readonly string[]): Promise<Uint8Array> {
  const { Encrypter } = await import("age-encryption");
  const encrypter = new Encrypter();
  for (const recipient of recipients) {
    try {
      encrypter.addRecipient(recipient);
    } catch {
      throw wrongRecipient(recipient);
    }
  }
  return encrypter.encrypt(content);
}

/** @throws CONFIG when one of them is no public key */
export async function requireRecipients(recipients: readonly string[]): Promise<void> {
  await wrapForRecipients(new Uint8Array(1), recipients);
}

function wrongRecipient(recipient: string): Error {
  return configError(
    `encryption: ${JSON.stringify(recipient.slice(0, 80))} is no recipient; it has a typing error`,
    "Copy the public key again; `age-keygen -y IDENTITY_FILE` prints it.",
  );
}

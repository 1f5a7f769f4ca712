import { nkeys } from "@nats-io/transport-node";
import { createHash } from "node:crypto";

type Claims = Record<string, unknown>;
type KeyPair = ReturnType<typeof nkeys.createUser>;

/** Rights of a user as its JWT has them. */
export interface UserRights {
  readonly publish?: readonly string[];
  readonly subscribe?: readonly string[];
  /** Seconds since 1970; never when left out. */
  readonly expires?: number;
}

const UNLIMITED = { subs: -1, data: -1, payload: -1 };
const ACCOUNT_LIMITS = { ...UNLIMITED, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: -1 };

/**
 * An operator with one account that has JetStream, as decentralised authentication has it: what `nsc` makes, made from
 * keys. The server knows the operator and the account; users are whoever has a JWT that the account signed.
 */
export class NatsOperator {
  readonly #operator = nkeys.createOperator();
  readonly #account = nkeys.createAccount();
  readonly #system = nkeys.createAccount();

  /** Lines of a server's configuration: operator, resolver and both accounts. */
  serverConfig(): string {
    const [operator, account, system] = [this.#operator, this.#account, this.#system].map((pair) =>
      pair.getPublicKey(),
    );
    const storage = { mem_storage: 64 * 1024 * 1024, disk_storage: 512 * 1024 * 1024, streams: 10, consumer: 100 };
    const jwtOf = (subject: KeyPair, name: string, limits: Claims): string =>
      jwt(this.#operator, { sub: subject.getPublicKey(), name, nats: { type: "account", limits } });
    return [
      `operator: ${jwt(this.#operator, { sub: operator, name: "operator", nats: { type: "operator" } })}`,
      `system_account: ${system}`,
      "resolver: MEMORY",
      "resolver_preload: {",
      `  ${account}: ${jwtOf(this.#account, "app", { ...ACCOUNT_LIMITS, ...storage })}`,
      `  ${system}: ${jwtOf(this.#system, "system", ACCOUNT_LIMITS)}`,
      "}",
    ].join("\n");
  }

  /** The text of a `.creds` file. */
  credentials(name: string, rights: UserRights = {}): string {
    const user = nkeys.createUser();
    const { publish, subscribe, expires } = rights;
    const nats = {
      type: "user",
      ...UNLIMITED,
      pub: publish ? { allow: publish } : {},
      sub: subscribe ? { allow: subscribe } : {},
    };
    const token = jwt(this.#account, { sub: user.getPublicKey(), name, nats, ...(expires ? { exp: expires } : {}) });
    const seed = new TextDecoder().decode(user.getSeed());
    return [
      block("NATS USER JWT", token),
      "************************* IMPORTANT *************************",
      block("USER NKEY SEED", seed),
    ].join("\n\n");
  }
}

function block(title: string, content: string): string {
  return `-----BEGIN ${title}-----\n${content}\n------END ${title}------`;
}

/** https://docs.nats.io/reference/reference-protocols/nats-jwt: a JWT signed with an nkey. */
function jwt(issuer: KeyPair, claims: { sub: string | undefined; name: string; nats: Claims; exp?: number }): string {
  const body = { iat: 1_700_000_000, iss: issuer.getPublicKey(), ...claims, nats: { ...claims.nats, version: 2 } };
  const jti = createHash("sha256").update(JSON.stringify(body)).digest("hex");
  const signed = [
    { typ: "JWT", alg: "ed25519-nkey" },
    { ...body, jti },
  ].map((part) => encode(JSON.stringify(part)));
  const signature = issuer.sign(new TextEncoder().encode(signed.join(".")));
  return [...signed, Buffer.from(signature).toString("base64url")].join(".");
}

const encode = (text: string): string => Buffer.from(text).toString("base64url");

import { execFileSync } from "node:child_process";
import { join } from "node:path";

export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

/** A certificate authority of one's own, made by openssl: all files lie in `directory`. */
export class Authority {
  readonly ca: string;
  readonly #directory: string;
  readonly #key: string;

  constructor(directory: string, name = "ca") {
    this.#directory = directory;
    const { cert, key } = openssl(directory, { name, subject: `/CN=Test authority ${name}` });
    this.ca = cert;
    this.#key = key;
  }

  /** `altName` as openssl writes it: `IP:127.0.0.1`, `DNS:nats.example`. */
  issue(name: string, options: { altName: string; days?: number }): Certificate {
    const signedBy = ["-CA", this.ca, "-CAkey", this.#key];
    const { altName, days = 2 } = options;
    return openssl(this.#directory, {
      name,
      subject: `/CN=${name}`,
      more: [...signedBy, "-addext", `subjectAltName=${altName}`],
      days,
    });
  }
}

interface Request {
  readonly name: string;
  readonly subject: string;
  readonly more?: readonly string[];
  readonly days?: number;
}

function openssl(directory: string, { name, subject, more = [], days = 2 }: Request): Certificate {
  const files = { cert: join(directory, `${name}.pem`), key: join(directory, `${name}.key`) };
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-keyout", files.key];
  const request = ["req", "-x509", ...newKey, "-out", files.cert, "-days", String(days), "-subj", subject, ...more];
  execFileSync("openssl", request, { stdio: "pipe" });
  return files;
}

/** The `tls` block of a server's configuration. */
export function serverTls(authority: Authority, certificate: Certificate, more = ""): string {
  const { cert, key } = certificate;
  return `tls { cert_file: "${cert}", key_file: "${key}", ca_file: "${authority.ca}", timeout: 5, ${more} }`;
}

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { afterAll, describe, expect, test } from "vitest";

import type { SftpPlace } from "../../src/config/config.ts";
import { fingerprint, type KnownKeys, knownKeys } from "../../src/repository/known-hosts.ts";

const directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-hosts-"));
afterAll(() => fs.rmSync(directory, { recursive: true, force: true }));
const file = path.join(directory, "known_hosts");
const [KEY, OTHER] = ["the key", "another key"].map((text) => Buffer.from(text.repeat(5)));
const base64 = (key: Buffer | undefined): string => key?.toString("base64") ?? "";

function known(text: string, place: Partial<SftpPlace> = {}): KnownKeys {
  fs.writeFileSync(file, text);
  const usual = { kind: "sftp", user: undefined, keyFile: undefined, hostKey: undefined } as const;
  return knownKeys({ ...usual, host: "backup.example.com", port: 22, directory: "/x", knownHosts: file, ...place });
}

function accepts(text: string, place: Partial<SftpPlace> = {}): boolean {
  return known(text, place).accepts(KEY ?? Buffer.alloc(0));
}

describe("a host's key is known", () => {
  test.each([
    ["by its name", "backup.example.com", true],
    ["among others, after a comment", "# ours\nmail,backup.example.com,10.0.0.7", true],
    ["whatever the case of letters", "Backup.Example.COM", true],
    ["by a pattern", "*.example.com", true],
    ["by a pattern of single characters", "backu?.example.co?", true],
    ["not by the beginning of its name", "backup.example", false],
    ["not by a dot that stands for anything", "backupXexample.com", false],
    ["not where it is left out", "*.example.com,!backup.example.com", false],
    ["not with a port", "[backup.example.com]:2222", false],
    ["not in a comment", "#backup.example.com", false],
    ["not where it is revoked", "@revoked backup.example.com", false],
    ["not as an authority", "@cert-authority backup.example.com", false],
  ])("%s", (_, hosts, expected) => {
    expect(accepts(`${hosts} ssh-ed25519 ${base64(KEY)} somebody@somewhere\n`)).toBe(expected);
    expect(accepts(`${hosts} ssh-ed25519 ${base64(OTHER)}\n`)).toBe(false);
  });

  test("at another port under that port alone", () => {
    const text = `[backup.example.com]:2222 ssh-ed25519 ${base64(KEY)}\n`;
    expect(accepts(text, { port: 2222 })).toBe(true);
    expect(accepts(`backup.example.com ssh-ed25519 ${base64(KEY)}\n`, { port: 2222 })).toBe(false);
  });

  test("by a name that ssh-keygen hashed", () => {
    fs.writeFileSync(path.join(directory, "plain"), `backup.example.com ssh-ed25519 ${ED25519}\n`);
    execFileSync("ssh-keygen", ["-q", "-H", "-f", path.join(directory, "plain")], { stdio: "pipe" });
    const hashed = fs.readFileSync(path.join(directory, "plain"), "utf8");
    expect(hashed).not.toContain("backup");
    expect(known(hashed).accepts(Buffer.from(ED25519, "base64"))).toBe(true);
    expect(known(hashed, { host: "mail.example.com" }).accepts(Buffer.from(ED25519, "base64"))).toBe(false);
  });

  test("not when it is revoked in another line", () => {
    const line = `backup.example.com ssh-ed25519 ${base64(KEY)}\n`;
    expect(accepts(`${line}@revoked * ssh-ed25519 ${base64(KEY)}\n`)).toBe(false);
  });

  test("by the configured fingerprint, and then by nothing else", () => {
    const line = `backup.example.com ssh-ed25519 ${base64(KEY)}\n`;
    expect(accepts("", { hostKey: fingerprint(KEY ?? Buffer.alloc(0)) })).toBe(true);
    expect(accepts(line, { hostKey: fingerprint(OTHER ?? Buffer.alloc(0)) })).toBe(false);
  });
});

test("the types of the known keys are told, to ask the host for one of them", () => {
  const lines = ["ssh-ed25519", "ssh-rsa"].map((type) => `backup.example.com ${type} ${base64(KEY)}`);
  expect(known(lines.join("\n")).types).toEqual(["ssh-ed25519", "ssh-rsa"]);
});

/** A real one: ssh-keygen rewrites no lines that it cannot read. */
const ED25519 = "AAAAC3NzaC1lZDI1NTE5AAAAIJ2h0kzGq4l0oXkS1mIuF0f1w3TPOl1mlYF0YCi1kJwR";

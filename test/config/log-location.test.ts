import { expect, test } from "vitest";

import { parseLogLocation } from "../../src/config/log-location.ts";

const parse = (text: string) => parseLogLocation(text, { where: "--log", directory: "/srv/app" });

const refusal = (text: string): string => {
  try {
    parse(text);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  throw new Error(`${text} was taken`);
};

test("an embedded log is a directory, counted from where it was named", () => {
  expect(parse("embedded:log")).toEqual({ kind: "embedded", directory: "/srv/app/log" });
  expect(parse("embedded:/var/log")).toEqual({ kind: "embedded", directory: "/var/log" });
});

test("a NATS log is servers, with a user perhaps", () => {
  expect(parse("nats://nats-1,nats-2:4333/")).toMatchObject({ servers: ["nats-1:4222", "nats-2:4333"], tls: false });
  expect(parse("nats://me:p%40ss:word@[::1]:4222")).toMatchObject({
    servers: ["[::1]:4222"],
    user: "me",
    password: "p@ss:word",
  });
  expect(parse("tls://nats-1")).toMatchObject({ servers: ["nats-1:4222"], user: undefined, tls: true });
});

test.each(["", "nats", "http://x:1", "nats://", "nats://host:99999", "nats://a b", "embedded:", "nats://u:%zz@h"])(
  "%j is refused",
  (text) => {
    expect(refusal(text)).toContain("--log");
  },
);

test("no message shows a password", () => {
  expect(refusal("http://me:geheim@host")).not.toContain("geheim");
  expect(refusal("nats://me:geheim@host:bad")).not.toContain("geheim");
  expect(refusal("me:geheim@host")).not.toContain("geheim");
});

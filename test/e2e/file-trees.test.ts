import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { afterAll, beforeAll, expect, test } from "vitest";

import { Program } from "../support/apps/program.ts";
import { Deployment } from "../support/deployment.ts";
import { createFilesTable } from "../support/file-order.ts";
import { differences } from "../support/random-tree.ts";
import type { RunningTidemark } from "../support/tidemark-cli.ts";
import { waitFor } from "../support/wait.ts";

// What programs do to trees, one after the other on one running deployment: after each step the standby is the primary.

const RESTLESS = fileURLToPath(new URL("../support/apps/restless-file.py", import.meta.url));
/** So many that the kernel's queue of announcements (16,384 by default, two a file) does not hold them. */
const CREATES = 9000;

let deployment: Deployment;
let agent: RunningTidemark;
let uploads: string;

beforeAll(async () => {
  deployment = new Deployment({
    trees: ["{ path: app/uploads, maxDelete: 100%, exclude: ['*.part'] }", "{ path: app/.env, name: settings/.env }"],
  });
  uploads = deployment.pathOf("uploads");
  fs.mkdirSync(uploads);
  fs.writeFileSync(deployment.pathOf(".env"), "A=0\n");
  await createFilesTable(deployment.database);
  agent = await deployment.start("run");
});

afterAll(async () => {
  expect((await agent.stop()).code).toBe(0);
  await deployment[Symbol.asyncDispose]();
});

/** Runs a shell script in a directory. */
function shell(script: string, cwd: string): void {
  execFileSync("bash", ["-euc", script], { cwd, stdio: "pipe" });
}

/** What the programs of each case do, step by step, in a directory of its own in the tree. */
const CASES: Readonly<Record<string, readonly string[]>> = {
  "directories made at once, with a file in the innermost": [
    "mkdir -p a/b/c && echo 1 >a/b/c/file",
    "mkdir -p a/b/d/e/f g/h/i && cp a/b/c/file g/h/i/ && rm -r a",
  ],
  "a populated tree moved in, about, over another one, and out": [
    `away=$(mktemp -d ../../../away.XXXX); mkdir -p "$away/in/x/y"; for i in $(seq 30); do echo $i >"$away/in/x/$i"; echo $i >"$away/in/x/y/$i"; done; mv "$away/in" .`,
    "mv in/x moved; mv moved/y in/x; echo late >moved/late",
    `mkdir other; echo 1 >other/1; mv -T --exchange in other 2>/dev/null || { mv in t; mv other in; mv t other; }`,
    "mv moved ../../../away.moved; mkdir moved; echo another >moved/1",
  ],
  "a tree copied with everything, an archive unpacked": [
    `mkdir from && echo 1 >from/a && ln from/a from/b && ln -s a from/l && chmod 4711 from/a && touch -d @1000000000.123456789 from/a from && cp -a from to
     tar -C from -cf ../../../some.tar . && mkdir unpacked && tar -C unpacked -xpf ../../../some.tar`,
  ],
  "branches checked out in turn": [
    `git init -q -b one . && git config user.email a@example.org && git config user.name A && git config gc.auto 0
     mkdir -p src/deep && for i in $(seq 40); do echo one $i >src/deep/$i; done; echo 1 >kind; git add . && git commit -qm one
     git checkout -qb two && git rm -qr src/deep/1* kind && mkdir -p kind lib && echo d >kind/file && for i in $(seq 20 40); do echo two $i >src/deep/$i; done
     echo lib >lib/new && git add . && git commit -qm two`,
    "for i in 1 2 3 4; do git checkout -q one; git checkout -q two; done",
    "git checkout -q one && git gc -q --prune=now",
  ],
  "two writes 20 ms apart": [
    `python3 -c '
import time
for i in range(25):
    for text in ("first", "other"):
        with open("f%d" % i, "w") as f: f.write(text)
        time.sleep(0.02)'`,
  ],
  "rewritten in the same size, with the old time put back": [
    "echo AAAA >same && touch -d @1000000000 same",
    "cp -p same ../../../stamp && printf BBBB | dd of=same conv=notrunc status=none && touch -r ../../../stamp same",
  ],
  "saved by a file beside it and a rename": [
    `printf 'a\\nb\\n' >text; sed -i s/a/c/ text; echo 1 >backup; mv backup backup~; echo 2 >backup; rm backup~
     python3 -c '
import os
for i in range(200):
    with open("saved.tmp", "w") as f: f.write("version %d" % i)
    os.replace("saved.tmp", "saved")'`,
  ],
  "renamed in nothing but case": [
    "echo 1 >Readme; mkdir -p Docs; echo 2 >Docs/File",
    "mv Readme README; mv Docs docs; mv docs/File docs/FILE",
  ],
  "symbolic links in loops and to nowhere, and places that change their kind": [
    "ln -s b a; ln -s a b; ln -s . here; ln -s .. up; ln -s nowhere dangling; mkdir d; ln -s ../d d/round; ln -s /etc/passwd out",
    "rm a; mkdir a; echo 1 >a/f; rm b; echo 2 >b; rm -r d; ln -s a d; ln -sfn README dangling; rm here; mkdir here",
    "rm -r a; echo 3 >a; rm b d; mkdir -p b/d; ln -s b/d d",
  ],
  "hard links made, one name changed in place, taken apart": [
    "mkdir d; echo 1 >a; ln a b; ln a d/c; echo x >lone",
    "echo 2 >>d/c; ln lone d/lone; chmod 600 b",
    "cp b t && mv t b; rm lone; ln -f d/c e; mv a d/a",
  ],
  "names that are no text": [
    String.raw`echo 1 >$'f\xff\xfe'; mkdir $'d\x80'; echo 2 >$'d\x80/in'; mkdir -p deep; echo 3 >deep/$'\xc3'; ln -s $'f\xff\xfe' $'l\xfe'; echo 4 >$'new\nline'; echo 5 >-rf`,
    String.raw`echo more >>$'f\xff\xfe'; echo new >$'d\x80/new'; mv $'d\x80' $'d\x81'; rm deep/$'\xc3'; mkdir -p $'d\x81/\xff/e'; echo 6 >$'d\x81/\xff/e/f'`,
  ],
  "times of directories": [
    "mkdir -p a/b/c; echo 1 >a/b/c/f; touch -d @1100000000.5 a/b/c a/b a",
    "echo 2 >a/b/c/f; touch -d @-5 a; touch -d @4000000000.000000001 a/b",
    "echo 3 >a/b/c/new; touch -d @1200000000 a/b/c; rmdir $(mktemp -d a/b/XXXX)",
  ],
  "extended attributes, rights, owners": [
    "echo 1 >f; mkdir d; setfattr -n user.a -v 0x00ff80 f; setfattr -n user.long -v $(head -c 2000 /dev/zero | tr '\\0' x) d; setfattr -n trusted.t -v 1 f",
    "setfattr -n user.a -v other f; setfattr -x user.long d; setfattr -n user.b d; chown 1234:4321 f; chmod 2750 d; chmod 000 f",
  ],
  "left out by a pattern, and taken under the name without it": [
    "echo 1 >up.part; echo 2 >other.part",
    "mv up.part up; mkdir d; mv other.part d/other",
  ],
};

test.each(Object.entries(CASES))("%s", async (name, steps) => {
  const directory = path.join(uploads, name.replaceAll(/\W/g, "-"));
  fs.mkdirSync(directory);
  for (const [index, step] of steps.entries()) {
    shell(step, directory);
    expect(await deployment.treeDifference("uploads", ["*.part"]), `after step ${index + 1}`).toBe("");
  }
});

test("FIFOs and sockets are told and left out, and what takes their place is captured", async () => {
  const directory = path.join(uploads, "special");
  fs.mkdirSync(directory);
  const bind = `import socket; socket.socket(socket.AF_UNIX).bind("socket")`;
  shell(`mkfifo fifo; python3 -c '${bind}'; echo 1 >beside`, directory);
  expect(await deployment.treeDifference("uploads", ["/special/fifo", "/special/socket"])).toBe("");
  expect(fs.readdirSync(deployment.standbyOf("uploads/special"))).toEqual(["beside"]);
  expect((await deployment.treeState("uploads")).problem).toMatch(/special\/(fifo|socket): .*(FIFO|socket)/);
  shell("rm fifo socket; echo 1 >fifo; mkdir socket", directory);
  expect(await deployment.treeDifference("uploads")).toBe("");
  expect((await deployment.treeState("uploads")).problem).toBeUndefined();
});

test("a file that is appended to without end has ever newer versions on the standby", async () => {
  const file = path.join(uploads, "endless");
  const copy = deployment.standbyOf("uploads/endless");
  {
    await using appender = new Program(["python3", RESTLESS, file, "append", "100000"]);
    await appender.line("it writes", (line) => line === "ready");
    let sizes = new Set<number>();
    await waitFor("three versions", () => {
      const seen = fs.readFileSync(copy);
      const now = fs.readFileSync(file);
      expect(now.subarray(0, seen.length).equals(seen)).toBe(true);
      sizes = sizes.add(seen.length);
      return sizes.size >= 3;
    });
  }
  expect(await deployment.treeDifference("uploads")).toBe("");
});

test("a single file as a tree", async () => {
  const env = deployment.pathOf(".env");
  const steps = [
    "echo B=1 >>.env; touch beside",
    "sed -i s/0/9/ .env; chmod 600 .env",
    "echo C=2 >new; touch -d @1000000000 new; mv new .env; rm beside",
    "setfattr -n user.kept -v 1 .env; printf D=4 | dd of=.env conv=notrunc status=none",
  ];
  for (const step of steps) {
    shell(step, deployment.databaseDirectory);
    await deployment.sync();
    expect(differences(env, deployment.standbyOf("settings/.env")), step).toBe("");
  }
  expect(fs.readdirSync(deployment.standbyOf("settings"))).toEqual([".env"]);
});

test(`${CREATES} files are made while the agent stands still`, async () => {
  for (let directory = 0; directory < 30; directory += 1)
    fs.mkdirSync(`${uploads}/many/${directory}`, { recursive: true });
  // They are watched then: more is announced of them than the kernel keeps.
  await deployment.sync();
  const before = (await deployment.treeState("uploads")).rescans;
  agent.child.kill("SIGSTOP");
  const make = `
for i in range(${CREATES}):
    with open("many/%d/%d" % (i % 30, i), "w") as f: f.write("file %d" % i)`;
  shell(`python3 -c '${make}'`, uploads);
  agent.child.kill("SIGCONT");
  expect(await deployment.treeDifference("uploads")).toBe("");
  expect((await deployment.treeState("uploads")).rescans).toBeGreaterThan(before);
});

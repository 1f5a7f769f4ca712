import { execFileSync } from "node:child_process";
import fs from "node:fs";

import Database from "better-sqlite3";
import { expect, test } from "vitest";

import { TreeScene } from "../../support/tree-scene.ts";

const sh = (scene: TreeScene, script: string): void =>
  void execFileSync("bash", ["-ec", script], { cwd: scene.root, stdio: ["ignore", "ignore", "inherit"] });

test("a tree of everything is captured as it is, once", async () => {
  await using scene = await TreeScene.open();
  sh(
    scene,
    `mkdir -p a/b/c empty; echo hi > a/f; : > a/none; head -c 70000 /dev/urandom > a/b/middle; head -c 3000000 /dev/urandom > a/b/c/large
     ln -s ../nowhere a/link; ln -s . a/loop; ln a/f a/b/hard; ln a/b/middle empty/../middle2
     cp a/b/c/large a/b/c/copy; setfattr -n user.note -v value a/f; setfattr -n user.d -v 1 a/b; chmod 4711 a/none; chmod 1777 empty
     python3 -c 'import os; open(b"a/\\xff\\xfe name", "w").write("x"); os.mkdir(b"a/\\xe9"); open(b"a/\\xe9/in", "w").write("y")'
     touch -d '1969-01-02 03:04:05.123456789' a/none; touch -d '2001-02-03' a/b/c; sleep 0.15`,
  );
  await scene.scan();
  await scene.expectSame();
  const before = await scene.counts();
  const chunks = before["file.chunk"] ?? 0;
  expect(chunks).toBeGreaterThan(5);
  expect(chunks).toBeLessThan(3000000 / 65536 + 2);
  await scene.scan();
  await scene.restart();
  const { removals } = await scene.scan();
  expect(removals).toEqual([]);
  expect(await scene.counts()).toEqual({ ...before, heartbeat: 1 });
  expect(scene.said).toEqual([]);
});

test("what changed since the last scan is found by itself", async () => {
  await using scene = await TreeScene.open();
  sh(
    scene,
    "mkdir -p d/e/f x; for i in $(seq 60); do echo $i > d/e/f/$i; echo $i > x/$i; done; echo one > case; echo 12345 > same",
  );
  await scene.scan();
  sh(
    scene,
    `mv d/e d/moved; rm x/1; echo more >> x/2; chmod 600 x/3; touch x/4; ln -s 5 x/five; rm x/6; mkdir x/6; echo in > x/6/in
     mv case Case; truncate -s 0 x/7; mv x/8 x/9; setfattr -n user.a -v b x/10; chmod 700 x; rm x/11; ln -s nowhere x/11
     old=$(stat -c %y same); sleep 0.03; echo 54321 > same; touch -d "$old" same`,
  );
  const { removals } = await scene.scan();
  expect(removals.map(({ kind, path }) => `${kind} ${path}`).sort()).toEqual([
    "dir.remove d/e",
    "file.remove case",
    "file.remove x/1",
    "file.remove x/8",
  ]);
  await scene.expectSame();
  sh(scene, "rm -r x/6; echo file > x/6");
  await scene.scan();
  await scene.expectSame();
});

test("a directory that git checks out again and again, and one that tar unpacks", async () => {
  await using scene = await TreeScene.open();
  sh(
    scene,
    `git init -q -b one .; git config user.email a@b; git config user.name n; mkdir -p p/q; for i in $(seq 30); do echo $i > p/q/$i; done; git add .; git commit -qm 1
     git checkout -qb two; git rm -qr p; mkdir -p r; for i in $(seq 30); do echo x$i > r/$i; done; echo f > p; git add .; git commit -qm 2`,
  );
  for (const branch of ["one", "two", "one"]) {
    sh(scene, `git checkout -q ${branch}; tar cf - .git | (mkdir -p copy-${branch}; cd copy-${branch}; tar xf -)`);
    await scene.scan();
    await scene.expectSame();
  }
});

test("what is no file is told, what may not be read too, and what is known of it stays", async () => {
  await using scene = await TreeScene.open();
  sh(
    scene,
    "mkfifo pipe; python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")'; mknod null c 1 3",
  );
  sh(scene, "echo 1 > shut; mkdir locked; echo 2 > locked/in; echo 3 > open; chown -R nobody .; chmod 755 ..");
  await scene.scan();
  const isSpecial = (at: string): boolean => ["pipe", "socket", "null"].includes(at);
  await scene.expectSame(isSpecial);
  expect(scene.said.map((line) => String(JSON.parse(line).msg)).sort()).toEqual([
    "is a FIFO, which cannot be captured",
    "is a device, which cannot be captured",
    "is a socket, which cannot be captured",
  ]);
  expect(scene.tree.figures().problem).toMatch(/^null: is a device, which cannot be captured, and 2 more$/);
  sh(scene, "chmod 000 shut locked; chown root shut locked; echo 33 > open");
  process.seteuid?.(65534);
  try {
    const { removals } = await scene.scan();
    expect(removals).toEqual([]);
  } finally {
    process.seteuid?.(0);
  }
  const refused = scene.said.filter((line) => line.includes("EACCES"));
  expect(refused.map((line) => String(JSON.parse(line).path)).sort()).toEqual(["locked", "shut"]);
  sh(scene, "chmod 644 shut; chmod 755 locked; rm pipe socket null");
  await scene.scan();
  await scene.expectSame();
  expect(scene.tree.figures().problem).toBeUndefined();
});

test("attributes that cannot be captured are told, and the file goes without them", async () => {
  await using scene = await TreeScene.open();
  sh(scene, "echo 1 > odd; setfattr -n user.a -v 1 odd; echo 2 > plain; setfattr -n user.b -v 2 plain");
  sh(scene, `python3 -c 'import os; os.setxattr("odd", b"user.\\xff", b"1")'`);
  await scene.scan();
  const told = scene.said.map((line) => JSON.parse(line) as { readonly path: string; readonly msg: string });
  expect(told.map(({ path: at }) => at)).toEqual(["odd"]);
  expect(told[0]?.msg).toContain("its extended attributes cannot be read, and are not captured");
  sh(scene, 'setfattr -x user.a odd; python3 -c \'import os; os.removexattr("odd", b"user.\\xff")\'');
  await scene.scan();
  await scene.expectSame();
});

test("patterns leave out, and bring back", async () => {
  const exclude = ["*.part", "/cache/", "node_modules", "!kept.part"];
  await using scene = await TreeScene.open({ exclude, include: ["/cache/important/**", "special.part"] });
  sh(
    scene,
    `mkdir -p cache/important/deep cache/other sub/cache sub/node_modules/x; echo > a.part; echo > kept.part; echo > cache/c; echo > cache/important/deep/d
     echo > cache/other/o; echo > sub/cache/k; echo > sub/node_modules/x/y; echo > sub/special.part; echo > A.PART`,
  );
  await scene.scan();
  const left = ["a.part", "cache/c", "cache/other", "sub/node_modules"];
  await scene.expectSame((at) => left.includes(at));
  await scene.restart({ exclude: [...exclude, "sub"], maxDeleteShare: 1 });
  await scene.scan();
  await scene.expectSame((at) => [...left, "cache/important", "cache", "sub"].includes(at));
});

test("databases of the set and directories of ours are left out, and their locks stay", async () => {
  const scene = await TreeScene.open();
  const file = scene.at("app.db");
  const database = new Database(file);
  database.pragma("journal_mode=WAL");
  database.exec("CREATE TABLE t (x); INSERT INTO t VALUES (1)");
  sh(scene, "mkdir -p state/deep; echo s > state/deep/s; echo f > file; ln app.db other-name");
  await scene.restart({ databases: () => [file], ownDirectories: [scene.at("state")] });
  await using _scene = scene;
  database.exec("BEGIN");
  database.prepare("SELECT * FROM t").all();
  const locks = (): number => {
    const { ino } = fs.statSync(file);
    const shm = fs.statSync(`${file}-shm`).ino;
    return fs.readFileSync("/proc/locks", "utf8").match(new RegExp(`:(${ino}|${shm}) `, "g"))?.length ?? 0;
  };
  const before = locks();
  expect(before).toBeGreaterThan(0);
  await scene.scan();
  expect(locks()).toBe(before);
  const ours = ["app.db", "app.db-wal", "app.db-shm", "other-name", "state"];
  await scene.expectSame((at) => ours.includes(at));
  database.close();
});

test("the names of one file stay together, whichever of them is used", async () => {
  await using scene = await TreeScene.open();
  sh(scene, "mkdir a b; echo one > a/f; echo other > a/other");
  await scene.look("a", "b");
  sh(scene, "ln a/f b/g");
  await scene.look("b/g");
  await scene.expectSame();
  sh(scene, "echo two > b/g");
  await scene.look("b/g");
  await scene.expectSame();
  sh(scene, "ln a/f a/h; rm b/g");
  await scene.look("a/h", "b/g");
  await scene.expectSame();
  sh(scene, "mv a/other a/h");
  await scene.look("a/other", "a/h");
  await scene.expectSame();
});

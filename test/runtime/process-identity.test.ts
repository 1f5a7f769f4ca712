import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

import { expect, test } from "vitest";

import { isDead, processIdentity } from "../../src/runtime/process-identity.ts";

const MODULE = fileURLToPath(new URL("../../src/runtime/process-identity.ts", import.meta.url));

test("who lives, and who is on another machine or in another container, is not dead; who ended is, also when his number is another's", async () => {
  const own = processIdentity() ?? "";
  const [boot = "", numbers = "", times = "", pid = "", began = ""] = own.split(" ");
  expect(isDead(own)).toBe(false);
  const program = `import(${JSON.stringify(MODULE)}).then((m) => console.log(m.processIdentity())); setInterval(() => 0, 1000)`;
  const child = spawn(process.execPath, ["-e", program], { stdio: ["ignore", "pipe", "inherit"] });
  const [said] = (await once(child.stdout, "data")) as [Buffer];
  const other = said.toString().trim();
  expect(isDead(other)).toBe(false);
  child.kill("SIGSTOP");
  expect(isDead(other)).toBe(false);
  child.kill("SIGKILL");
  await once(child, "close");
  expect(isDead(other)).toBe(true);
  expect(isDead([boot, numbers, times, pid, Number(began) + 1].join(" "))).toBe(true);
  const [, , , gone = "", then = ""] = other.split(" ");
  expect(isDead(["another-start", numbers, times, gone, then].join(" "))).toBe(false);
  expect(isDead([boot, "pid:[1]", times, gone, then].join(" "))).toBe(false);
  for (const nonsense of ["", "1", `${boot} ${numbers} ${times} 0 0`, `${boot} ${numbers} ${times} x y`])
    expect(isDead(nonsense)).toBe(false);
});

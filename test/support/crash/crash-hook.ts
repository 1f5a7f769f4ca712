// Preloaded into a program under test, in every thread of it: kills the program at the crash point that the order in the
// file TIDEMARK_TEST_CRASH names, when it passes there for the Nth time since the order was given ("N point").
import fs from "node:fs";

import { type CrashPoint, onCrashPoint } from "../../../src/runtime/crash-point.ts";

const orders = process.env["TIDEMARK_TEST_CRASH"] ?? "";
let order = "";
let passed = 0;

onCrashPoint((point: CrashPoint) => {
  const given = fs.existsSync(orders) ? fs.readFileSync(orders, "utf8") : "";
  if (given !== order) passed = 0;
  order = given;
  if (!given.endsWith(` ${point}`)) return;
  passed += 1;
  if (passed < Number.parseInt(given, 10)) return;
  fs.writeFileSync(`${orders}.died`, point);
  process.kill(process.pid, "SIGKILL");
});

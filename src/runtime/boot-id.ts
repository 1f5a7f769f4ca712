import fs from "node:fs";

/** Another after each start of the machine; "" where the system has none. */
export function bootId(): string {
  try {
    return fs.readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return "";
  }
}

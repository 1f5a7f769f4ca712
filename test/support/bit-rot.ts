import { execFileSync } from "node:child_process";

const SCRIPT = `
import os, sys
file, keep_times, positions = sys.argv[1], sys.argv[2] == "1", [int(p) for p in sys.argv[3:]]
before = os.stat(file)
fd = os.open(file, os.O_RDWR)
for position in positions:
    byte = os.pread(fd, 1, position)
    os.pwrite(fd, bytes([byte[0] ^ 0x10]), position)
os.close(fd)
if keep_times:
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
`;

/**
 * Flips a bit at each position. In a process of its own: opening and closing a database in this one could drop SQLite's
 * locks. `unnoticed`: the file's times stay, as they do when a disk decays.
 */
export function flipBits(file: string, positions: readonly number[], { unnoticed } = { unnoticed: true }): void {
  execFileSync("python3", ["-c", SCRIPT, file, unnoticed ? "1" : "0", ...positions.map(String)]);
}

import fs from "node:fs";
import path from "node:path";

/** A file that a process has open. */
export interface OpenFile {
  readonly file: string;
  readonly pid: string;
  /** Name of its program; empty when it cannot be told. */
  readonly command: string;
}

/**
 * The first file for which `belongs` that some process has open. As far as this process may look (Linux: its own user's
 * processes, all of them as root); elsewhere nothing is found.
 */
export function findOpenFile(belongs: (file: string, fd: OpenDescriptor) => boolean): OpenFile | undefined {
  for (const pid of entries("/proc").filter((name) => /^\d+$/.test(name))) {
    for (const fd of entries(`/proc/${pid}/fd`)) {
      const file = linkOf(`/proc/${pid}/fd/${fd}`);
      if (belongs(file, new OpenDescriptor(pid, fd))) return { file, pid, command: commandOf(pid) };
    }
  }
  return undefined;
}

class OpenDescriptor {
  readonly #info: string;

  constructor(pid: string, fd: string) {
    this.#info = `/proc/${pid}/fdinfo/${fd}`;
  }

  /** Whether it was opened to be written; what cannot be told is taken for it. */
  get isForWriting(): boolean {
    const [, flags] = /^flags:\s*([0-7]+)$/m.exec(textOf(this.#info) ?? "") ?? [];
    return flags === undefined || (Number.parseInt(flags, 8) & ACCESS_MODE) !== fs.constants.O_RDONLY;
  }
}

const ACCESS_MODE = 0o3;

export function shownProcess({ pid, command }: OpenFile): string {
  return `process ${pid}${command === "" ? "" : ` (${command})`}`;
}

/** Of its program: threads give themselves other names. */
function commandOf(pid: string): string {
  return path.basename(linkOf(`/proc/${pid}/exe`)) || (textOf(`/proc/${pid}/comm`)?.trim() ?? "");
}

/** A process may end at any moment, or be somebody else's. */
function entries(directory: string): string[] {
  try {
    return fs.readdirSync(directory);
  } catch {
    return [];
  }
}

function linkOf(place: string): string {
  try {
    return fs.readlinkSync(place);
  } catch {
    return "";
  }
}

function textOf(file: string): string | undefined {
  try {
    return fs.readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
}

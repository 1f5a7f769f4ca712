import { createHash } from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

import { pino } from "pino";
import { expect } from "vitest";

import { CaptureFeed } from "../../src/capture/capture-feed.ts";
import { FileIndex } from "../../src/capture/files/file-index.ts";
import { FilesFeed } from "../../src/capture/files/files-feed.ts";
import { LargeFiles } from "../../src/capture/files/large-files.ts";
import { Outbox } from "../../src/capture/files/outbox.ts";
import { OwnFiles } from "../../src/capture/files/own-files.ts";
import { FileTree, type TreeOptions } from "../../src/capture/files/tree-capture.ts";
import type { Dirty, Findings, LookOptions } from "../../src/capture/files/tree-seam.ts";
import { ShipQueue } from "../../src/capture/ship-queue.ts";
import { chunksOf } from "../../src/event/chunk-list.ts";
import type { LogEvent, PathMetadata } from "../../src/event/kinds.ts";
import type { Offset } from "../../src/event/positions.ts";
import { byteString, fsPath, joinPath, nameOf, parentPath, type TreePath } from "../../src/event/tree-path.ts";
import { BodyPacker } from "../../src/log/body-packer.ts";
import type { ChangeLog } from "../../src/log/change-log.ts";
import { openEmbeddedLog } from "../../src/log/embedded-log.ts";
import type { KnownHead, LogWriter } from "../../src/log/log-writer.ts";
import { type Clock, systemClock } from "../../src/runtime/clock.ts";
import type { TidemarkError } from "../../src/runtime/errors.ts";
import { metadataOf } from "../../src/tree/metadata.ts";
import { readXattrs } from "../../src/tree/xattrs.ts";
import { allEvents, openWriter } from "./log-scene.ts";

/** What stands at a path, in words: equal things are equal texts. */
export type Picture = Readonly<Record<string, string>>;

export type TreeSceneOptions = Partial<TreeOptions["tree"]> & {
  readonly acceptEmpty?: boolean;
  readonly clock?: Clock;
  readonly databases?: () => readonly string[];
  readonly ownDirectories?: readonly string[];
};

interface LookAt {
  readonly patienceMs?: number;
  readonly enter?: LookOptions["enter"];
  readonly held?: LookOptions["held"];
}

/** A real tree, captured into a real log without an agent. */
export class TreeScene implements AsyncDisposable {
  readonly directory = fs.mkdtempSync(path.join(os.tmpdir(), "tidemark-tree-"));
  readonly root = path.join(this.directory, "uploads");
  readonly said: string[] = [];
  tree!: FileTree;
  log!: ChangeLog;
  writer!: LogWriter;
  index!: FileIndex;
  feed!: FilesFeed;
  captureFeed!: CaptureFeed;
  /** Whether what the log has is stored at once. */
  storing = true;
  #large = new LargeFiles(undefined);
  #packer = new BodyPacker();
  #clock: Clock = systemClock;
  /** Where the log stood when the scene was stopped. */
  known: KnownHead | undefined;

  static async open(options: TreeSceneOptions = {}): Promise<TreeScene> {
    const scene = new TreeScene();
    fs.mkdirSync(scene.root);
    await scene.start(options);
    return scene;
  }

  /** Like the start of an agent. */
  async start(options: TreeSceneOptions = {}): Promise<void> {
    const { acceptEmpty = false, databases = () => [], ownDirectories = [], clock = systemClock, ...tree } = options;
    this.#clock = clock;
    this.log = await openEmbeddedLog({ directory: path.join(this.directory, "log"), set: "app", mode: "write" });
    this.writer = await openWriter(this.log, { known: this.known });
    const queue = new ShipQueue(clock);
    const onFailure = (error: TidemarkError): void => void this.said.push(error.message);
    const feed = new CaptureFeed({ writer: this.writer, writerId: "w", clock, heartbeatMs: 60_000, queue, onFailure });
    this.#packer = new BodyPacker();
    this.captureFeed = feed;
    this.feed = new FilesFeed(feed, this.#packer);
    this.index = new FileIndex(path.join(this.directory, "state"));
    const { signal } = new AbortController();
    const head = this.writer.acknowledged.offset;
    await this.index.recover({ log: this.log, logId: this.writer.logId, head, signal });
    this.#large = new LargeFiles(undefined);
    const logger = pino({ level: "warn" }, { write: (line: string) => void this.said.push(line) });
    const now = (): number => clock.monotonic();
    this.tree = new FileTree({
      tree: { name: "uploads", path: this.root, exclude: [], include: [], maxDeleteShare: 0.5, ...tree },
      index: this.index,
      outbox: new Outbox(this.feed, this.index),
      own: new OwnFiles({ databases, directories: ownDirectories, now }),
      large: this.#large,
      acceptEmpty,
      clock,
      logger,
    });
  }

  async restart(options: TreeSceneOptions = {}): Promise<void> {
    await this.stop();
    await this.start(options);
  }

  /** As a killed agent leaves it: what was not stored is lost. */
  async stop({ store = true }: { store?: boolean } = {}): Promise<void> {
    await this.writer.flush();
    const { offset, hash } = this.writer.acknowledged;
    this.known = { logId: this.writer.logId, offset, hash };
    if (store) this.store(offset);
    this.tree.close();
    await this.#large[Symbol.asyncDispose]();
    await this.#packer[Symbol.asyncDispose]();
    this.index[Symbol.dispose]();
    await this.log[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    fs.rmSync(this.directory, { recursive: true, force: true });
  }

  store(acknowledged: Offset): void {
    for (const _step of this.tree.storing(acknowledged)) continue;
  }

  at(name: string): string {
    return path.join(this.root, name);
  }

  async scan(): Promise<Findings> {
    const { signal } = new AbortController();
    const findings = await this.tree.scan({ signal, enter: () => false, progress: () => undefined });
    await this.tree.remove(findings.removals);
    await this.#settled();
    return findings;
  }

  /** Looks at these paths, as if they had been announced; without: at all of the root. */
  async look(...paths: readonly string[]): Promise<Findings> {
    const dirty = new Map<TreePath, Set<string> | "all">();
    for (const one of paths) {
      const at = byteString(Buffer.from(one)) as TreePath;
      const names = dirty.get(parentPath(at)) ?? new Set<string>();
      if (names !== "all") dirty.set(parentPath(at), names.add(nameOf(at)));
    }
    return this.lookAt(dirty);
  }

  async lookAt(
    dirty: Dirty,
    { patienceMs = 10_000, enter = () => false, held = new Map() }: LookAt = {},
  ): Promise<Findings> {
    const { signal } = new AbortController();
    const deadlineMs = this.#clock.monotonic() + patienceMs;
    const findings = await this.tree.look(dirty, { signal, enter, held, deadlineMs });
    await this.tree.remove(findings.removals);
    await this.#settled();
    return findings;
  }

  async events(): Promise<LogEvent[]> {
    return allEvents(this.log);
  }

  /** Number of events of each kind. */
  async counts(): Promise<Record<string, number>> {
    const counts: Record<string, number> = {};
    for (const { body } of await this.events()) counts[body.kind] = (counts[body.kind] ?? 0) + 1;
    return counts;
  }

  /** The log, folded, is the tree: content, kinds, rights, times, attributes, names of one file. */
  async expectSame(leaveOut: (path: string) => boolean = () => false): Promise<void> {
    const events = await this.events();
    expect(foldOf(events)).toEqual(pictureOf(this.root, leaveOut));
    expect(directoriesSaidTooEarly(events)).toEqual([]);
  }

  async #settled(): Promise<void> {
    await this.writer.flush();
    if (this.storing) this.store(this.writer.acknowledged.offset);
  }
}

/** What a reader makes of the events who knows nothing but the order. */
export function foldOf(events: readonly LogEvent[]): Picture {
  const contents = new Map<string, Uint8Array>();
  const places = new Map<string, { text: string; group: number }>();
  const parts = new Map<number, Uint8Array[]>();
  const removeBelow = (top: string): void => {
    for (const at of places.keys()) if (at === top || top === "" || at.startsWith(`${top}/`)) places.delete(at);
  };
  for (const { body } of events) {
    switch (body.kind) {
      case "file.chunk":
        contents.set(byteString(body.id), body.data);
        break;
      case "file.part":
        parts.set(body.put, [...(parts.get(body.put) ?? []), body.chunks]);
        break;
      case "file.put": {
        if (body.data) contents.set(byteString(body.hash), body.data);
        requireParent(places, body.path);
        if (places.get(body.path)?.text.startsWith("dir")) throw new Error(`a directory is at ${body.path}`);
        const list = Buffer.concat([...(parts.get(body.put) ?? []), body.chunks]);
        const hash = createHash("sha256");
        for (const { id } of chunksOf(list)) {
          const data = contents.get(id);
          if (!data) throw new Error(`the content of ${body.path} is not in the log before it`);
          hash.update(data);
        }
        const digest = hash.digest("hex");
        if (digest !== Buffer.from(body.hash).toString("hex")) throw new Error(`${body.path} has another hash`);
        const place = { text: `file ${body.size} ${digest} ${metadataText(body)}`, group: body.group ?? 0 };
        // What one name of a file says is so for all of its names.
        for (const [at, { group }] of places) if (group !== 0 && group === place.group) places.set(at, place);
        places.set(body.path, place);
        break;
      }
      case "dir.put":
        requireParent(places, body.path);
        if (places.has(body.path) && !places.get(body.path)?.text.startsWith("dir")) {
          throw new Error(`no directory is at ${body.path}`);
        }
        places.set(body.path, { text: `dir ${metadataText(body)}`, group: 0 });
        break;
      case "link.put":
        requireParent(places, body.path);
        places.set(body.path, { text: `link ${body.target} ${body.uid} ${body.gid} ${body.mtimeNs}`, group: 0 });
        break;
      case "file.remove":
      case "dir.remove":
        if (!places.has(body.path)) throw new Error(`${body.path} is removed and was not there`);
        removeBelow(body.path);
        break;
      default:
    }
  }
  return withNames(places);
}

/** Directories in which something came or went after they were said last: whoever applies the events in order has their times wrong. */
function directoriesSaidTooEarly(events: readonly LogEvent[]): string[] {
  const known = new Set<TreePath>();
  const changed = new Set<TreePath>();
  for (const { body } of events) {
    if (!("path" in body)) continue;
    const { kind, path: at } = body;
    const isRemoval = kind === "file.remove" || kind === "dir.remove";
    if (at !== "" && (isRemoval || !known.has(at))) changed.add(parentPath(at));
    if (kind === "dir.put") changed.delete(at);
    if (isRemoval) for (const one of known) if (one === at || one.startsWith(`${at}/`)) known.delete(one);
    if (isRemoval) for (const one of changed) if (one === at || one.startsWith(`${at}/`)) changed.delete(one);
    if (!isRemoval) known.add(at);
  }
  return [...changed];
}

function requireParent(places: ReadonlyMap<string, { text: string }>, at: TreePath): void {
  if (at !== "" && !places.get(parentPath(at))?.text.startsWith("dir")) throw new Error(`no directory is above ${at}`);
}

function metadataText({ mode, uid, gid, mtimeNs, xattrs }: PathMetadata): string {
  const shown = [...(xattrs ?? [])].map(([name, value]) => `${name}=${Buffer.from(value).toString("hex")}`).sort();
  return [mode.toString(8), uid, gid, mtimeNs, ...shown].join(" ");
}

/** Names of one file are listed with each of them. */
function withNames(places: ReadonlyMap<string, { text: string; group: number | string }>): Picture {
  const groups = new Map<number | string, string[]>();
  for (const [at, { group }] of places) if (group) groups.set(group, [...(groups.get(group) ?? []), at]);
  const entries = [...places].map(([at, { text, group }]) => {
    const names = group ? (groups.get(group) ?? []).filter((name) => name !== at).sort() : [];
    return [at, names.length > 0 ? `${text} also ${names.join(", ")}` : text] as const;
  });
  return Object.fromEntries(entries.sort(([one], [other]) => (one < other ? -1 : 1)));
}

/** What is on the disk. */
export function pictureOf(root: string, leaveOut: (path: string) => boolean = () => false): Picture {
  const places = new Map<string, { text: string; group: string }>();
  const visit = (at: TreePath): void => {
    const file = fsPath(root, at);
    const stat = fs.lstatSync(file, { bigint: true });
    if (leaveOut(at)) return;
    const xattrs = Buffer.from(file.toString()).equals(file) ? readXattrs(file.toString()) : undefined;
    const metadata = metadataText({ ...metadataOf(stat), ...(xattrs ? { xattrs } : {}) });
    const group = stat.isFile() && stat.nlink > 1n ? `${stat.dev} ${stat.ino}` : "";
    if (stat.isFile()) {
      const digest = createHash("sha256").update(fs.readFileSync(file)).digest("hex");
      places.set(at, { text: `file ${stat.size} ${digest} ${metadata}`, group });
    } else if (stat.isSymbolicLink()) {
      const target = byteString(fs.readlinkSync(file, { encoding: "buffer" }));
      places.set(at, { text: `link ${target} ${stat.uid} ${stat.gid} ${stat.mtimeNs}`, group: "" });
    } else if (stat.isDirectory()) {
      places.set(at, { text: `dir ${metadata}`, group: "" });
      for (const name of fs.readdirSync(file, { encoding: "latin1" })) visit(joinPath(at, name));
    }
  };
  visit("" as TreePath);
  return withNames(places);
}

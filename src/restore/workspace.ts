import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

import type Database from "better-sqlite3";

import { type ByteString, bytesOf } from "../event/tree-path.ts";
import { syncDirectory } from "../runtime/durable-directory.ts";
import { errnoOf, TidemarkError } from "../runtime/errors.ts";
import { crashPoint } from "../runtime/crash-point.ts";
import { type DeadWork, nameWork, sweepDeadWork, unnameWork, workParent } from "./dead-work.ts";
import { contentOf, inspectTarget, requireFree, WORK_INFIX, type TargetDirectory } from "./target-directory.ts";
import { requireUnused } from "./target-in-use.ts";
import { removeWork } from "./remove-work.ts";
import { freeName, keepUnlessReplaced } from "./replaced-content.ts";
import { syncContent } from "./sync-content.ts";
import { holdLock } from "./work-lock.ts";

/** What the restore writes, and what the target held until then, below the work directory. */
const NEW = "new";
const OLD = "old";
const STAGED = "staged";
const SCRATCH = "scratch";

export interface OpenWorkspaceOptions {
  readonly directory: string;
  readonly force: boolean;
  /** Of the restore, exactly: one that was killed left a directory of which much may be used. Undefined: nothing may. */
  readonly identity?: string | undefined;
  /** A test decides here where the work goes; otherwise mount points do. */
  readonly inspect?: (directory: string) => TargetDirectory;
}

/**
 * A temporary directory on the target's file system in which the result is made and verified; `handOver` then makes it
 * the target. Whatever happens before leaves the target as it was. Disposing removes the directory.
 */
export class RestoreWorkspace implements Disposable {
  readonly target: TargetDirectory;
  readonly directory: string;
  /** The result is written here, in the shape of the target. */
  readonly content: string;
  /** Not there yet; for what is on its way into the result. */
  readonly staging: string;
  /** Made for what is needed on the way and not handed over. */
  readonly scratch: string;
  readonly #old: string;
  readonly #lock: Database.Database;
  /** Outermost directory that had to be made for the target to have a parent. */
  readonly #madeParent: string | undefined;
  #settled = false;
  #left = false;

  /** `lock`: it was held already when an earlier restore's directory was taken over. */
  private constructor(
    target: TargetDirectory,
    directory: string,
    { lock, madeParent }: { lock?: Database.Database; madeParent?: string | undefined },
  ) {
    this.target = target;
    this.directory = directory;
    this.content = path.join(directory, NEW);
    this.staging = path.join(directory, STAGED);
    this.scratch = path.join(directory, SCRATCH);
    this.#old = path.join(directory, OLD);
    this.#madeParent = madeParent;
    this.#lock = lock ?? holdLock(directory);
    fs.mkdirSync(this.content, { recursive: true });
    fs.mkdirSync(this.scratch, { recursive: true });
  }

  /** @throws TARGET_NOT_EMPTY, AGENT_RUNNING (another restore into the same target), DATABASE_BUSY, USAGE */
  static open({ directory, force, identity, inspect = inspectTarget }: OpenWorkspaceOptions): RestoreWorkspace {
    const left = sweepDeadWork(inspect(directory), identity);
    try {
      return RestoreWorkspace.#open({ directory, force, identity, inspect }, left);
    } catch (error) {
      left?.lock.close();
      throw error;
    }
  }

  static #open(
    { directory, force, identity, inspect }: OpenWorkspaceOptions & Required<Pick<OpenWorkspaceOptions, "inspect">>,
    left: DeadWork | undefined,
  ): RestoreWorkspace {
    const target = inspect(directory);
    requireFree(target, force);
    if (target.state === "occupied") requireUnused(target.path);
    const parent = workParent(target);
    const madeParent = fs.mkdirSync(parent, { recursive: true });
    const prefix = target.work === "inside" ? "." : `.${path.basename(target.path)}.`;
    const work = path.join(parent, `${prefix}${WORK_INFIX}${process.pid}-${randomBytes(4).toString("hex")}`);
    if (left) {
      fs.renameSync(left.directory, work);
      crashPoint("restore: taken over");
      return new RestoreWorkspace(target, work, { lock: left.lock, madeParent });
    }
    fs.mkdirSync(work, { mode: 0o700 });
    const workspace = new RestoreWorkspace(target, work, { madeParent });
    if (identity !== undefined) nameWork(work, identity);
    return workspace;
  }

  /** What is here from now on is of no use to another restore. */
  forgetIdentity(): void {
    unnameWork(this.directory);
  }

  /** The directory stays when this is disposed of, for the next restore of this identity. */
  leave(): void {
    this.#left = true;
  }

  /** Before the result is handed over or kept: names and contents survive a power cut. */
  async makeDurable(): Promise<void> {
    await syncContent(this.content);
  }

  /**
   * Puts the result in the target's place. Of what was there, everything is removed if the result replaces all of it;
   * otherwise it is kept, and its path returned.
   */
  handOver(): string | undefined {
    this.forgetIdentity();
    const current = inspectTarget(this.target.path);
    // Somebody may have put files there meanwhile.
    if (this.target.state !== "occupied") requireFree(current, false);
    else requireUnused(this.target.path, this.directory);
    const kept = this.target.work === "beside" ? this.#replaceWhole() : this.#replaceEntries();
    this.#settled = true;
    return kept;
  }

  /** For a result that SQLite finds damaged: out of the way of programs, in the hands of the user. */
  keepUnverified(directory: string): string {
    const inside = this.target.work === "inside";
    const place = freeName(inside ? path.join(this.target.path, "unverified") : `${this.target.path}.unverified`);
    fs.renameSync(directory, place);
    syncDirectory(path.dirname(place));
    this.#settled = true;
    return place;
  }

  [Symbol.dispose](): void {
    this.#lock.close();
    if (this.#left) return;
    const holdsOld = fs.existsSync(this.#old) && fs.readdirSync(this.#old).length > 0;
    if (!holdsOld) removeWork(this.directory);
    if (!this.#settled) this.#removeMadeParents();
  }

  #replaceWhole(): string | undefined {
    const { path: target, state } = this.target;
    if (state !== "absent") likeBefore(this.content, target);
    if (state === "occupied") fs.renameSync(target, this.#old);
    try {
      fs.renameSync(this.content, target);
    } catch (error) {
      if (state === "occupied") fs.renameSync(this.#old, target);
      throw errnoOf(error) === "ENOTEMPTY" || errnoOf(error) === "EEXIST" ? filledMeanwhile(target) : error;
    }
    syncDirectory(path.dirname(target));
    return state === "occupied" ? keepUnlessReplaced(this.#old, this.target) : undefined;
  }

  #replaceEntries(): string | undefined {
    const { path: target, state } = this.target;
    const moved: [from: Buffer, to: Buffer][] = [];
    const move = (name: ByteString, from: string, to: string): void => {
      const way: [Buffer, Buffer] = [inDirectory(from, name), inDirectory(to, name)];
      rename(...way);
      moved.push(way);
    };
    fs.mkdirSync(this.#old);
    try {
      for (const name of contentOf(target)) move(name, target, this.#old);
      for (const name of fs.readdirSync(this.content, { encoding: "latin1" })) move(name, this.content, target);
    } catch (error) {
      for (const [from, to] of moved.toReversed()) rename(to, from);
      throw error;
    }
    syncDirectory(target);
    return state === "occupied" ? keepUnlessReplaced(this.#old, this.target) : undefined;
  }

  #removeMadeParents(): void {
    if (this.#madeParent === undefined) return;
    try {
      for (let at = path.dirname(this.target.path); at.startsWith(this.#madeParent); at = path.dirname(at))
        fs.rmdirSync(at);
    } catch {
      // Somebody else uses it by now.
    }
  }
}

function inDirectory(directory: string, name: ByteString): Buffer {
  return Buffer.concat([Buffer.from(`${directory}/`), bytesOf(name)]);
}

/** A directory that we may not write may not be moved either, for it names the one above it: it may have come back like that. */
function rename(from: Buffer, to: Buffer): void {
  try {
    fs.renameSync(from, to);
  } catch (error) {
    const stat = fs.lstatSync(from);
    if (errnoOf(error) !== "EACCES" || !stat.isDirectory()) throw error;
    fs.chmodSync(from, stat.mode | 0o200);
    fs.renameSync(from, to);
    fs.chmodSync(to, stat.mode);
  }
}

/** A directory that was there keeps its owner and permissions. */
function likeBefore(directory: string, before: string): void {
  const { mode, uid, gid } = fs.statSync(before);
  fs.chmodSync(directory, mode & 0o7777);
  const own = fs.statSync(directory);
  if (own.uid !== uid || own.gid !== gid) fs.chownSync(directory, uid, gid);
}

function filledMeanwhile(target: string): TidemarkError {
  return new TidemarkError("TARGET_NOT_EMPTY", `${target} was filled by somebody else while the restore ran`, {
    hint: "Name an empty or new directory, or replace what is there with --force once no program uses it.",
  });
}

import type { Clock } from "../../runtime/clock.ts";
import type { DatabaseCaptureOptions } from "./database-parts.ts";
import type { Shipper } from "./shipper.ts";

const SAVE_EVERY_MS = 5000;
/** Storing the index waits for the log's acknowledgements only so long: nobody looks at the WAL meanwhile. */
const SAVE_PATIENCE_MS = 50;
/** In a copy the log is always a few MiB behind. */
const COPY_PATIENCE_MS = 1000;
const SAVE_AGAIN_MS = 500;
/** A repair that is done sooner need not be stored on the way: until then the log's tail tells enough. */
const FIRST_REPAIR_SAVE_MS = 500;

/** Stores what the log holds of a database in the agent's state: now and then, and when it matters. */
export class IndexSaver {
  /** The file that the index describes; undefined when it is to be compared, whatever the WAL proves. */
  shippedFile: string | undefined;
  readonly #shipper: Shipper;
  readonly #store: DatabaseCaptureOptions["save"];
  readonly #forgetFile: () => void;
  readonly #clock: Clock;
  #dirty = false;
  #dueMs = 0;

  constructor(shipper: Shipper, options: Pick<DatabaseCaptureOptions, "save" | "forgetFile" | "clock" | "shipped">) {
    this.#shipper = shipper;
    this.#store = options.save;
    this.#forgetFile = options.forgetFile;
    this.#clock = options.clock;
    this.shippedFile = options.shipped?.file;
  }

  /** Something was shipped. `urgent`: at once, because an agent killed now must not begin it again. */
  changed({ urgent }: { urgent: boolean } = { urgent: false }): void {
    this.#dirty = true;
    if (urgent) this.#dueMs = 0;
  }

  get due(): boolean {
    return this.#dirty && this.#late;
  }

  async saveIfDue(): Promise<void> {
    if (this.due) await this.save(SAVE_PATIENCE_MS);
  }

  async saveIfDirty(): Promise<void> {
    if (this.#dirty) await this.save();
  }

  async save(patienceMs?: number): Promise<void> {
    await this.#save(this.shippedFile, patienceMs);
  }

  /**
   * The file was written around SQLite: the WAL proves nothing of it any more, to a start after a kill neither. Stored
   * before it is compared, whether the log acknowledges what the index holds or not.
   */
  doubt(): void {
    this.shippedFile = undefined;
    this.#forgetFile();
  }

  /** A copy or repair begins. The first copy is stored as soon as it has parts: nothing else tells whose they are. */
  copying(): void {
    const first = this.#shipper.index.sizePages === 0;
    this.#dueMs = this.#clock.monotonic() + (first ? 0 : FIRST_REPAIR_SAVE_MS);
  }

  /** In the middle of the copy of `file`: what is stored says that it is under way. */
  async saveCopyIfDue(file: string): Promise<void> {
    if (this.#late) await this.#save(file, COPY_PATIENCE_MS);
  }

  async saveCopy(file: string): Promise<void> {
    await this.#save(file, undefined);
  }

  get #late(): boolean {
    return this.#clock.monotonic() >= this.#dueMs;
  }

  async #save(file: string | undefined, patienceMs: number | undefined): Promise<void> {
    const saved = await this.#store(this.#shipper.shipped(file ?? "none"), patienceMs);
    this.#dueMs = this.#clock.monotonic() + (saved ? SAVE_EVERY_MS : SAVE_AGAIN_MS);
    if (saved) this.#dirty = false;
  }
}

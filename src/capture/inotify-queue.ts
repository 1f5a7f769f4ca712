type Listener = () => void;

/** The kernel's queue of announcements, one for all watches of an event loop: every watch of this process tells of what it hears. */
class InotifyQueue {
  readonly #listeners = new Set<Listener>();

  /** Something was announced. */
  count(): void {
    for (const listener of this.#listeners) listener();
  }

  onAnnounced(listener: Listener): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }
}

export const inotifyQueue = new InotifyQueue();

import type { Offset } from "../../event/positions.ts";
import { TidemarkError } from "../../runtime/errors.ts";
import type { StandbyImage } from "./standby-image.ts";

interface Request {
  readonly known: ReadonlyMap<string, Offset>;
  readonly resolve: (image: StandbyImage) => void;
  readonly reject: (error: unknown) => void;
}

/** Those who want an image of the standby, until it comes to a quiet point. */
export class ImageRequests {
  readonly #requests = new Set<Request>();
  /** Called when there is a new one: the replica may be asleep. */
  onRequest: () => void = () => undefined;

  get any(): boolean {
    return this.#requests.size > 0;
  }

  /** Whoever gets the image disposes of it. @throws INTERRUPTED with the signal's abort, and what stopped the replica */
  request(known: ReadonlyMap<string, Offset>, signal: AbortSignal): Promise<StandbyImage> {
    if (signal.aborted) return Promise.reject(interrupted());
    const { promise, resolve, reject } = Promise.withResolvers<StandbyImage>();
    const request = { known, resolve, reject };
    const abort = (): void => {
      if (this.#requests.delete(request)) reject(interrupted());
    };
    this.#requests.add(request);
    signal.addEventListener("abort", abort, { once: true });
    this.onRequest();
    return promise.finally(() => signal.removeEventListener("abort", abort));
  }

  /** At a quiet point. */
  serve(make: (known: ReadonlyMap<string, Offset>) => StandbyImage): void {
    for (const request of this.#requests) {
      this.#requests.delete(request);
      try {
        request.resolve(make(request.known));
      } catch (error) {
        request.reject(error);
      }
    }
  }
}

function interrupted(): TidemarkError {
  return new TidemarkError("INTERRUPTED", "the standby did not come to a quiet point before the wait was ended", {
    hint: "`tidemark status` shows whether the standby follows.",
  });
}

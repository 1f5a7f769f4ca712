/**
 * Where stores on a file system write what is not an object yet: no object's name begins with a dot. All in one place, so
 * that leftovers are found without a walk.
 */
export const UNFINISHED = ".unfinished";

/** Nobody writes an object for so long. */
export const LEFTOVER_AGE_MS = 60 * 60 * 1000;

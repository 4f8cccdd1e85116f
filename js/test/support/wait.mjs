import { setTimeout as pause } from "node:timers/promises";

/** Longer than anything takes that a test waits for. */
export const PATIENCE_MS = 20_000;

/** Returns the first value of `check` that is not undefined. */
export async function until(check, what = "the event") {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    const value = await check();
    if (value !== undefined && value !== false) {
      return value;
    }
    if (Date.now() > deadline) {
      throw new Error(`${what} did not happen in time`);
    }
    await pause(5);
  }
}

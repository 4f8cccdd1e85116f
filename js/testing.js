// See index.js.
import implementation from "./lib/testing.cjs";

export const { FakeBroker } = implementation;

// The implementation is CommonJS, so that `import` and `require` share the classes and the cached tokens.
import implementation from "./lib/index.cjs";

export const {
  Broker,
  Token,
  DomoTokenError,
  NotRunning,
  Unavailable,
  NotPermitted,
  UnknownScopeSet,
  Rejected,
} = implementation;

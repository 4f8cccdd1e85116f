"use strict";

const path = require("node:path");

const IS_WINDOWS = process.platform === "win32";

const EXAMPLE = IS_WINDOWS ? "\\\\.\\pipe\\domo-token" : "/run/domo-token/broker.sock";

/** The longest scheme that messages show: a longer one may be a secret. */
const MAX_SCHEME = 16;

/**
 * Returns the path that a value names: a plain path, `unix:///PATH` or `unix:/PATH`. An invalid value results in what is
 * wrong with it and what to write instead, without the value itself.
 *
 * @param {string} value
 * @param {string | undefined} home the home directory of a tilde
 * @returns {{ path: string } | { problem: string }}
 */
function parseSocketPath(value, home) {
  if (value === "") {
    return { problem: `it is empty; write a path such as ${EXAMPLE}` };
  }
  if (value.includes("\0")) {
    // An abstract socket has no owner that could be checked.
    return { problem: `it contains a null byte; write a path such as ${EXAMPLE}` };
  }
  if (/^~(?:$|.*\/)/s.test(value)) {
    const isOwn = value === "~" || value.startsWith("~/");
    const full = isOwn && home !== undefined ? path.join(home, value.slice(1)) : "the full path";
    return { problem: `the tilde is not expanded; write ${full}` };
  }
  const colon = value.indexOf(":");
  const scheme = value.slice(0, Math.max(colon, 0));
  const isDrive = IS_WINDOWS && scheme.length === 1;
  if (colon < 0 || /[/\\]/.test(scheme) || isDrive) {
    return { path: value };
  }
  if (!IS_WINDOWS && scheme.toLowerCase() === "unix") {
    return pathOfUrl(value.slice(colon + 1));
  }
  const shown = scheme.length <= MAX_SCHEME ? `with "${scheme}:"` : "with a name and a colon";
  return { problem: `the path of a socket does not start ${shown}; write a path such as ${EXAMPLE}` };
}

/**
 * Returns the path of a URL, by what follows `unix:`.
 *
 * @param {string} rest
 * @returns {{ path: string } | { problem: string }}
 */
function pathOfUrl(rest) {
  if (rest.includes("%")) {
    return { problem: '"%" is not decoded; write the plain path, without "unix:"' };
  }
  const found = rest.startsWith("//") ? rest.slice(2) : rest;
  if (found.startsWith("/")) {
    return { path: found };
  }
  const relative = found.startsWith("localhost/") ? found.slice("localhost/".length) : found;
  if (relative === "") {
    return { problem: `"unix:" names no path; write a path such as ${EXAMPLE}` };
  }
  return { problem: `in a "unix:" URL the path starts at the root; write unix:///${relative}` };
}

module.exports = { parseSocketPath };

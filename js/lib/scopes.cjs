"use strict";

const { errorOf } = require("./errors.cjs");

const MAX_BYTES = 1024;

/** What RFC 6749 §3.3 allows in a scope; a comma separates scopes here. */
const SCOPE = /^[!#-[\]-~]+$/;

/**
 * Returns the scopes of a set, sorted and without duplicates: `data,user`, `user data` and `["user", "data"]` are the
 * same set.
 *
 * @param {string | readonly string[]} scopes
 * @returns {string[]}
 */
function parseScopes(scopes) {
  const isText = typeof scopes === "string";
  if (!isText && !(Array.isArray(scopes) && scopes.every((scope) => typeof scope === "string"))) {
    throw new TypeError('scopes must be a string such as "data user", or an array of strings');
  }
  const text = isText ? scopes : scopes.join(" ");
  if (text.length > MAX_BYTES) {
    throw errorOf("invalid_scope", `a scope set has at most ${MAX_BYTES} bytes`);
  }
  const found = new Set(text.split(/[ ,\t]/).filter((scope) => scope !== ""));
  if (found.size === 0) {
    throw errorOf("invalid_scope", 'a scope set needs at least one scope, such as "data"');
  }
  for (const scope of found) {
    if (!SCOPE.test(scope)) {
      const cause = "a scope may contain only printable ASCII without quotes and backslashes";
      throw errorOf("invalid_scope", cause);
    }
  }
  return [...found].sort();
}

module.exports = { parseScopes };

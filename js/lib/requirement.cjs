"use strict";

const { isFresh, isValid, leftMs } = require("./token.cjs");

/** @typedef {import("./token.cjs").Token} Token */

/**
 * The conditions that a caller sets for a token.
 *
 * @typedef {object} Requirement
 * @property {number} [minTtlMs] the least time until it expires
 * @property {{ generation: number, expiresAt: number }} [rejected] the token that Domo rejected
 */

/** No conditions. @type {Requirement} */
const ANY = Object.freeze({});

/**
 * Returns whether a cached token is sufficient, without a request.
 *
 * @param {Requirement} requirement
 * @param {Token} token
 * @returns {boolean}
 */
function isMetByCached({ minTtlMs, rejected }, token) {
  if (rejected && (token.generation === rejected.generation || token.expiresAt <= rejected.expiresAt)) {
    return false;
  }
  return minTtlMs === undefined ? isFresh(token) : isValid(token) && leftMs(token) >= minTtlMs;
}

/**
 * Returns whether a token that was requested with the conditions of another caller is sufficient.
 *
 * @param {Requirement} requirement
 * @param {Token} token
 * @returns {boolean}
 */
function isMetByNew({ minTtlMs, rejected }, token) {
  return token.generation !== rejected?.generation && (minTtlMs === undefined || leftMs(token) >= minTtlMs);
}

/**
 * Returns whether a failure to meet the first requirement is one to meet the second, too.
 *
 * @param {Requirement} first
 * @param {Requirement} second
 * @returns {boolean}
 */
function isNoStricter(first, second) {
  return first === second || (first.rejected === undefined && (first.minTtlMs ?? 0) <= (second.minTtlMs ?? 0));
}

module.exports = { ANY, isMetByCached, isMetByNew, isNoStricter };

"use strict";

/** @typedef {import("./broker.cjs").Broker} Broker */

/** The first version of undici whose fetch removes `Authorization` on a redirect to another origin. */
const FIRST_SAFE_UNDICI = [5, 14];

/**
 * Sends a request with a token, and once more with another one if Domo rejects the first.
 *
 * @param {Broker} broker
 * @param {string | URL | Request} input
 * @param {RequestInit & { scopes: string | readonly string[], minTtlMs?: number }} init
 * @returns {Promise<Response>}
 */
async function fetchWithToken(broker, input, init) {
  if (init?.scopes === undefined) {
    throw new TypeError('fetch() needs the scopes of the token: fetch(url, { scopes: "data" })');
  }
  const { scopes, minTtlMs, ...rest } = init;
  const request = input instanceof Request ? input : undefined;
  const signal = rest.signal ?? request?.signal;
  const headers = new Headers(rest.headers ?? request?.headers);

  const send = (/** @type {import("./token.cjs").Token} */ token) => {
    headers.set("Authorization", `Bearer ${token.text}`);
    return fetch(input, { ...rest, headers, ...redirectMode(rest.redirect ?? request?.redirect, process.versions.undici) });
  };
  const token = await broker.token(scopes, { minTtlMs, signal });
  const response = await send(token);
  if (!rejectsToken(response, headers) || !receivedToken(response, request?.url ?? String(input))) {
    return response;
  }
  // Also if this request cannot be sent again: the next one needs the other token.
  let renewed;
  try {
    renewed = await broker.renew(token, { signal });
  } catch (error) {
    if (signal?.aborted) {
      throw error;
    }
    // Domo's answer explains more than the lack of another token.
    return response;
  }
  if (!canSendAgain(rest.body, request)) {
    return response;
  }
  await discardBody(response);
  return send(renewed);
}

/**
 * Frees the connection of a response that nobody reads.
 *
 * @param {Response} response
 * @returns {Promise<void>}
 */
async function discardBody(response) {
  try {
    await response.body?.cancel();
  } catch {
    // The connection was lost within the body: it is free, too.
  }
}

/**
 * Returns whether Domo rejects a token by that response: by 401, and by 406 if CSV was requested.
 *
 * @param {Response} response
 * @param {Headers} headers
 * @returns {boolean}
 */
function rejectsToken({ status }, headers) {
  return status === 401 || (status === 406 && (headers.get("accept") ?? "").includes("text/csv"));
}

/**
 * Returns whether the response is from the origin that the token was sent to, not from another one after a redirect.
 *
 * @param {Response} response
 * @param {string} url
 * @returns {boolean}
 */
function receivedToken(response, url) {
  return !response.redirected || new URL(response.url).origin === new URL(url).origin;
}

/**
 * Returns whether the body can be read twice. That of a Request and streams cannot.
 *
 * @param {RequestInit["body"]} body
 * @param {Request | undefined} request
 * @returns {boolean}
 */
function canSendAgain(body, request) {
  if (body === undefined || body === null) {
    return !request?.body;
  }
  return (
    typeof body === "string" ||
    body instanceof URLSearchParams ||
    body instanceof FormData ||
    body instanceof Blob ||
    body instanceof ArrayBuffer ||
    ArrayBuffer.isView(body)
  );
}

/**
 * Returns the option `redirect`. Where fetch would send the token to another origin, redirects are an error.
 *
 * @param {RequestInit["redirect"]} wanted
 * @param {string | undefined} undici the version of undici, if Node names it
 * @returns {{ redirect: RequestInit["redirect"] }}
 */
function redirectMode(wanted, undici) {
  if (wanted === "manual" || wanted === "error") {
    return { redirect: wanted };
  }
  const [major = 0, minor = 0] = (undici ?? "").split(".").map(Number);
  const [safeMajor = 0, safeMinor = 0] = FIRST_SAFE_UNDICI;
  const isSafe = major > safeMajor || (major === safeMajor && minor >= safeMinor);
  return { redirect: isSafe ? "follow" : "error" };
}

module.exports = { fetchWithToken, redirectMode };

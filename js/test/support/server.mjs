import net from "node:net";
import path from "node:path";

import { temporaryFolder } from "./folder.mjs";

/** Returns a token as the broker answers it. */
export function tokenJson(fields = {}) {
  const inMs = 3_599_000;
  return {
    access_token: "c4nary-t0ken",
    token_type: "bearer",
    expires_at: Math.floor((Date.now() + inMs) / 1000),
    expires_in: Math.floor(inMs / 1000),
    scope: "data",
    client: "acme",
    generation: 7,
    broker: "/run/x.sock",
    ...fields,
  };
}

/** Returns the bytes of an HTTP answer. */
export function answer(status, value, headers = {}) {
  const body = typeof value === "string" ? value : JSON.stringify(value);
  const all = { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(body), ...headers };
  const lines = Object.entries(all).map(([name, text]) => `${name}: ${text}\r\n`);
  return `HTTP/1.1 ${status} Status\r\n${lines.join("")}\r\n${body}`;
}

export function problem(kind, status, fields = {}) {
  const value = { type: `urn:domo-token:${kind}`, title: kind, status, detail: `the cause of ${kind}`, ...fields };
  return answer(status, value, { "Content-Type": "application/problem+json" });
}

/**
 * Starts a server whose `respond(request, connection, number)` returns the bytes of each answer, or undefined to send none.
 * `requests` are the request lines received.
 */
export async function startServer(t, respond, socket = path.join(temporaryFolder(t), "broker.sock")) {
  const requests = [];
  const connections = new Set();
  const server = net.createServer((connection) => {
    connections.add(connection);
    connection.on("close", () => connections.delete(connection));
    connection.on("error", () => {});
    let head = "";
    connection.on("data", async (bytes) => {
      head += bytes;
      if (!head.endsWith("\r\n\r\n")) {
        return;
      }
      requests.push(head);
      const bytesOut = await respond(head, connection, requests.length);
      head = "";
      if (bytesOut !== undefined) {
        connection.end(bytesOut);
      }
    });
  });
  const stop = () =>
    new Promise((resolve) => {
      server.close(resolve);
      connections.forEach((connection) => connection.destroy());
    });
  await new Promise((resolve) => server.listen(socket, resolve));
  t.after(stop);
  return { socket, requests, connections, stop };
}

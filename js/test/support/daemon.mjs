import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { Broker } from "domo-token";
import { temporaryFolder } from "./folder.mjs";
import { until } from "./wait.mjs";

const built = fileURLToPath(new URL("../../../target/debug", import.meta.url));
const programs = process.env.DOMO_TOKEN_BIN_DIR || built;

const ID = "441e307a-b2a1-4a99-8561-174e5b153fe1";
const SECRET = "c4nary-s3cret";

/** The option of tests that run the real programs. */
export const needsPrograms = ["domo-tokend", "domo-sandbox"].every((name) => fs.existsSync(path.join(programs, name)))
  ? {}
  : { skip: `no domo-tokend and domo-sandbox in ${programs}; set DOMO_TOKEN_BIN_DIR, or run: cargo build --workspace --bins` };

/** Starts the sandbox in place of Domo. `requests` are the token requests that it received. */
export async function startSandbox(t, flags = []) {
  const all = ["--port", "0", "--client", `${ID}:${SECRET}:data,user`, ...flags];
  const child = spawn(path.join(programs, "domo-sandbox"), all, { stdio: ["ignore", "pipe", "inherit"] });
  t.after(() => end(child, "SIGKILL"));
  const sandbox = { tokenUrl: undefined, url: undefined, requests: [] };
  createInterface({ input: child.stdout }).on("line", (line) => {
    sandbox.tokenUrl ??= /^# Token endpoint: (.*)$/.exec(line)?.[1];
    const request = /^# +([\d.]+) s .*: (\d+)$/.exec(line);
    if (request) {
      sandbox.requests.push({ seconds: Number(request[1]), status: Number(request[2]) });
    }
  });
  await until(() => sandbox.tokenUrl, "the start of the sandbox");
  sandbox.url = new URL("/", sandbox.tokenUrl).origin;
  return sandbox;
}

/** Starts a daemon for the sandbox. `config` is added to its client, `broker` to `[broker]`. */
export async function startDaemon(t, sandbox, { config = "", broker = "", tokens = ["data", "data user"] } = {}) {
  const folder = temporaryFolder(t);
  const file = path.join(folder, "config.toml");
  const socket = path.join(folder, "broker.sock");
  const write = (sets, more = "") => {
    const text = `[broker]\n${broker}\n[clients.acme]\nclient_id = "${ID}"\nclient_secret = "${SECRET}"
tokens = ${JSON.stringify(sets)}\ntoken_url = "${sandbox.tokenUrl}"\nallow_http_loopback = true\n${config}\n${more}\n`;
    fs.writeFileSync(`${file}.new`, text, { mode: 0o600 });
    fs.renameSync(`${file}.new`, file);
  };
  write(tokens);
  const daemon = { socket, child: undefined, log: "", write, firsts: [] };
  const start = async () => {
    const arguments_ = ["--config", file, "--socket", socket, "--log", "debug"];
    const child = spawn(path.join(programs, "domo-tokend"), arguments_, { stdio: ["ignore", "ignore", "pipe"] });
    child.stderr.on("data", (text) => (daemon.log += text));
    daemon.child = child;
    await until(() => fs.existsSync(socket) || child.exitCode !== null, "the start of the daemon");
  };
  /** Ends it by a signal, and starts it again. */
  daemon.restart = async (signal) => {
    await end(daemon.child, signal);
    await start();
  };
  daemon.stop = () => end(daemon.child, "SIGTERM");
  daemon.client = (options = {}) => new Broker({ socket, ...options });
  await start();
  t.after(async () => {
    await end(daemon.child, "SIGKILL");
    if (daemon.log.includes("c4nary")) {
      throw new Error("the daemon's log has a secret");
    }
  });
  return daemon;
}

async function end(child, signal) {
  if (child.exitCode === null && child.signalCode === null) {
    const ended = once(child, "exit");
    child.kill(signal);
    await ended;
  }
}

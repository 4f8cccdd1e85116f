import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import fs from "node:fs";
import { createRequire } from "node:module";
import test from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import * as imported from "domo-token";
import * as importedTesting from "domo-token/testing";
import { PATIENCE_MS } from "./support/wait.mjs";

const require = createRequire(import.meta.url);
const read = (name) => fs.readFileSync(new URL(`../${name}`, import.meta.url), "utf8");

test("import and require share the classes", async () => {
  const required = require("domo-token");
  const names = (module) => Object.keys(module).filter((name) => name !== "default" && name !== "module.exports").sort();
  assert.deepEqual(names(imported), names(required));
  for (const name of names(required)) {
    assert.equal(imported[name], required[name], name);
  }
  assert.deepEqual(names(importedTesting), ["FakeBroker"]);
  assert.equal(importedTesting.FakeBroker, require("domo-token/testing").FakeBroker);
  const fake = await importedTesting.FakeBroker.start();
  const token = await fake.broker().token("data");
  assert.ok(token instanceof required.Token && token instanceof imported.Token);
  await fake.close();
});

test("version and licenses are those of the workspace", () => {
  const { version, license, dependencies } = JSON.parse(read("package.json"));
  const cargo = read("../Cargo.toml");
  assert.ok(cargo.includes(`[workspace.package]\nversion = "${version}"\n`), version);
  assert.ok(cargo.includes(`license = "${license}"`));
  assert.equal(dependencies, undefined);
  for (const name of ["LICENSE-MIT", "LICENSE-APACHE"]) {
    assert.equal(read(name), read(`../${name}`));
  }
});

test("nothing keeps a process running", async (t) => {
  const fake = await importedTesting.FakeBroker.start();
  t.after(() => fake.close());
  const script = fileURLToPath(new URL("support/ends-by-itself.mjs", import.meta.url));
  const env = { ...process.env, DOMO_TOKEN_SOCKET: fake.socket };
  const { stdout } = await promisify(execFile)(process.execPath, [script], { env, timeout: PATIENCE_MS });
  assert.equal(stdout, "token\nwatch\nlate\n");
});

test("the fake broker sets and resets $DOMO_TOKEN_SOCKET and removes its files", async () => {
  const before = process.env.DOMO_TOKEN_SOCKET;
  const fake = await importedTesting.FakeBroker.start({ setEnvironment: true });
  assert.equal(process.env.DOMO_TOKEN_SOCKET, fake.socket);
  assert.equal((await new imported.Broker().token("data")).client, "fake");
  await fake.close();
  assert.equal(process.env.DOMO_TOKEN_SOCKET, before);
  assert.ok(!fs.existsSync(fake.socket));
  await fake.close();
});

test("the fake broker fails as a test decides", async (t) => {
  const fake = await importedTesting.FakeBroker.start();
  t.after(() => fake.close());
  const broker = fake.broker({ timeoutMs: 1000 });
  for (const kind of ["not_permitted", "unknown_client", "unknown_scope", "min_ttl_too_long", "gone", "denied", "busy", "bug", "unavailable", "timeout"]) {
    fake.fail("data", kind);
    await assert.rejects(broker.token("data"), { kind });
  }
  fake.grant("data", "t0ken");
  assert.equal((await broker.token("data")).text, "t0ken");
  assert.throws(() => fake.fail("data", "not_running"), TypeError);
  assert.throws(() => fake.grant("data", "not a token"), TypeError);
  fake.failOthers("unknown_scope");
  await assert.rejects(broker.token("other"), { kind: "unknown_scope" });
  assert.equal((await fake.broker().token("data")).text, "t0ken");
});

// A project with the packed package, by `require`.
const assert = require("node:assert/strict");
const { Broker, NotRunning } = require("domo-token");
const { FakeBroker } = require("domo-token/testing");

(async () => {
  const fake = await FakeBroker.start({ setEnvironment: true });
  fake.grant("data", "t0ken");
  assert.equal((await new Broker().token("data")).text, "t0ken");
  await fake.close();
  await assert.rejects(new Broker({ socket: fake.socket }).token("data"), NotRunning);
  assert.equal((await import("domo-token")).Broker, Broker);
  console.log("CommonJS: ok");
})();

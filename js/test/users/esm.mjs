// A project with the packed package, by `import`.
import assert from "node:assert/strict";
import { Broker, NotRunning } from "domo-token";
import { FakeBroker } from "domo-token/testing";

const fake = await FakeBroker.start({ setEnvironment: true });
fake.grant("data", "t0ken");
assert.equal((await new Broker().token("data")).text, "t0ken");
await fake.close();
await assert.rejects(new Broker({ socket: fake.socket }).token("data"), NotRunning);
console.log("ESM: ok");

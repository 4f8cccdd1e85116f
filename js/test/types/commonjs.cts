// The same declarations for `require`. Only compiled.
import domoToken = require("domo-token");
import testing = require("domo-token/testing");

const broker: domoToken.Broker = new domoToken.Broker({ client: "acme" });
const token: Promise<domoToken.Token> = broker.token("data");
const fake: Promise<testing.FakeBroker> = testing.FakeBroker.start();
// The class that `import` and `require` share.
const same: Promise<import("domo-token", { with: { "resolution-mode": "import" } }).Token> = token;
console.log(token, fake, same);

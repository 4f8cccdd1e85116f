// The implementation has what the declarations promise. Only compiled.
import declared = require("domo-token");
import implemented = require("../../lib/index.cjs");
import declaredTesting = require("domo-token/testing");
import implementedTesting = require("../../lib/testing.cjs");

type Names<T> = { [K in keyof T]: unknown };
type Methods<T extends abstract new (...args: never[]) => unknown> = Names<InstanceType<T>>;

declare const exports1: Names<typeof implemented>;
export const names: Names<typeof declared> = exports1;
declare const exports2: Names<typeof implementedTesting>;
export const testingNames: Names<typeof declaredTesting> = exports2;

declare const broker: Methods<typeof implemented.Broker>;
export const brokerMethods: Names<declared.Broker> = broker;
declare const token: Methods<typeof implemented.Token>;
export const tokenProperties: Names<declared.Token> = token;
declare const error: Methods<typeof implemented.DomoTokenError>;
export const errorProperties: Names<declared.DomoTokenError> = error;
declare const fake: Methods<typeof implementedTesting.FakeBroker>;
export const fakeMethods: Names<declaredTesting.FakeBroker> = fake;

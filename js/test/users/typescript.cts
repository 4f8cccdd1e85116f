// The same in CommonJS.
import { Broker, type Token } from "domo-token";
import { FakeBroker } from "domo-token/testing";

export async function text(broker: Broker = new Broker()): Promise<string> {
  const token: Token = await broker.token("data");
  const fake: FakeBroker = await FakeBroker.start();
  return token.text + fake.socket;
}

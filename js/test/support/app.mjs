import { setTimeout } from "node:timers/promises";
import { Broker } from "domo-token";

const broker = new Broker();
for (;;) {
  const response = await broker.fetch(process.argv[2], { scopes: "data" });
  console.log(response.status, (await response.json()).length);
  await setTimeout(5);
}

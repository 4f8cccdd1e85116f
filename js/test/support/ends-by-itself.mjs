// Uses a broker in each way and closes nothing.
import { Broker } from "domo-token";

const broker = new Broker();
await broker.token("data");
console.log("token");
const watch = broker.watch("data");
await watch.next();
console.log("watch");
process.on("exit", () => console.log("late"));

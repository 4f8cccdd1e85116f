// Ends by an error that has a token and a broker among its properties.
import { Broker } from "domo-token";

const broker = new Broker();
const token = await broker.token("data");
console.log(token, broker);
throw Object.assign(new Error(`with a token: ${token}`, { cause: token }), { token, broker });

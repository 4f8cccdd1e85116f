// Calls Domo by domo-sdk, Domo's SDK for Node, as commands on standard input request.
//
// Usage: node domo_sdk_commands.js HOST ID SECRET. Each command gets one line: "ok", or "failed" and the error. The SDK requests a
// token with its first call.

const readline = require('node:readline');
const { DomoClient } = require('domo-sdk');
const { API_SCOPE, UPDATE_METHODS } = require('domo-sdk/dist/common/Constants');

const MIB = 1 << 20;
const ROW = `${'x'.repeat(MIB - 1)}\n`;

const [host, id, secret] = process.argv.slice(2);
const domo = new DomoClient(id, secret, [API_SCOPE.DATA, API_SCOPE.USER], host);
let kept;

const request = (name) => ({ name, description: '', schema: { columns: [{ type: 'STRING', name: 'Text' }] } });

function equal(found, expected) {
  if (found !== expected) throw new Error(`found ${found}, expected ${expected}`);
}

const commands = {
  // One small GET.
  async list() {
    if ((await domo.datasets.list(2, 0)).length === 0) throw new Error('no datasets');
  },
  async users() {
    await domo.users.list(10, 0);
  },
  // Creates the dataset of `upload`.
  async prepare() {
    kept = (await domo.datasets.create(request('Kept'))).id;
  },
  async upload(mib) {
    await domo.datasets.importData(kept, ROW.repeat(Number(mib)));
  },
  async download(mib) {
    equal((await domo.datasets.exportData(kept)).length, Number(mib) * MIB);
  },
  async discard() {
    await domo.datasets.delete(kept);
  },
  // Uploads parts of a stream in parallel.
  async parts(count) {
    const updateMethod = UPDATE_METHODS[UPDATE_METHODS.REPLACE];
    const stream = await domo.streams.create({ dataSet: request('Parts'), updateMethod });
    try {
      const execution = await domo.streams.createExecution(stream.id);
      const rows = Array.from({ length: Number(count) }, (_, number) => `${number}\n`.repeat(1000));
      await Promise.all(rows.map((row, at) => domo.streams.uploadPart(stream.id, execution.id, at + 1, row)));
      equal((await domo.streams.commit(stream.id, execution.id)).currentState, 'SUCCESS');
      equal(await domo.datasets.exportData(stream.dataSet.id), rows.join(''));
    } finally {
      await domo.streams.delete(stream.id);
      await domo.datasets.delete(stream.dataSet.id);
    }
  },
};

async function main() {
  console.log('ok');
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [name, ...values] = line.split(' ');
    try {
      await commands[name](...values);
      console.log('ok');
    } catch (error) {
      const cause = error.error ?? error;
      console.log(`failed ${cause.statusCode ?? ''} ${cause.message ?? cause}`.replaceAll('\n', ' '));
    }
  }
}

main();

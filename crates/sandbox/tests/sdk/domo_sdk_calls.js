// Calls of domo-sdk 2, Domo's SDK for Node, against a sandbox.
//
// Usage: node domo_sdk_calls.js HOST ID SECRET, with a sandbox that serves HTTPS on HOST and whose CA is in
// NODE_EXTRA_CA_CERTS. domo-sdk has no setting for HTTP, and no calls for queries and pages.

const assert = require('node:assert/strict');
const zlib = require('node:zlib');
const { DomoClient } = require('domo-sdk');
const { API_SCOPE, FILTER_OPERATORS, ROLES, UPDATE_METHODS } = require('domo-sdk/dist/common/Constants');

const CSV = 'Pythagoras,FALSE\nAlan Turing,TRUE\n';

const party = {
  name: "Euler's guests",
  description: 'Mathematician Guest List',
  schema: { columns: [{ type: 'STRING', name: 'Friend' }, { type: 'STRING', name: 'Attending' }] },
};

async function rejects(promise, status) {
  await assert.rejects(promise, (error) => error.error.statusCode === status);
}

async function datasets(domo) {
  assert.equal((await domo.datasets.list(50, 0, 'name')).length, 2);
  assert.equal((await domo.datasets.list(1, 1)).length, 1);
  const { id } = await domo.datasets.create(party);
  assert.deepEqual((await domo.datasets.get(id)).schema, party.schema);
  assert.equal((await domo.datasets.update(id, { ...party, name: 'Guests' })).name, 'Guests');
  await domo.datasets.importData(id, CSV);
  assert.equal(await domo.datasets.exportData(id), CSV);
  assert.equal(await domo.datasets.exportData(id, true), `Friend,Attending\n${CSV}`);
  await rejects(domo.datasets.importData(id, '1,2,3\n'), 400);

  const policy = {
    name: 'Only guests',
    filters: [{
      column: 'Attending', operator: FILTER_OPERATORS[FILTER_OPERATORS.EQUALS], values: ['TRUE'], not: false,
    }],
    users: [998],
  };
  const created = await domo.policies.create(id, policy);
  assert.equal((await domo.policies.get(id, created.id)).name, 'Only guests');
  assert.equal((await domo.policies.update(id, created.id, { ...policy, name: 'Guests' })).name, 'Guests');
  assert.equal((await domo.policies.list(id)).length, 1);
  await domo.policies.delete(id, created.id);
  await domo.datasets.delete(id);
  await rejects(domo.datasets.get(id), 404);
}

async function streams(domo) {
  const updateMethod = UPDATE_METHODS[UPDATE_METHODS.APPEND];
  const stream = await domo.streams.create({ dataSet: party, updateMethod });
  const { id } = stream;
  assert.equal((await domo.streams.get(id)).dataSet.name, party.name);
  assert.deepEqual((await domo.streams.list()).map((found) => found.id), [id]);
  assert.equal((await domo.streams.search([`dataSource.id:${stream.dataSet.id}`])).length, 1);
  assert.equal((await domo.streams.update(id, { updateMethod: 'REPLACE' })).updateMethod, 'REPLACE');

  const execution = await domo.streams.createExecution(id);
  await domo.streams.uploadPart(id, execution.id, 1, CSV.split('\n')[0]);
  await domo.streams.uploadCompressedPart(id, execution.id, 2, zlib.gzipSync(CSV.split('\n')[1]));
  assert.equal((await domo.streams.getExecution(id, execution.id)).currentState, 'ACTIVE');
  assert.equal((await domo.streams.commit(id, execution.id)).currentState, 'SUCCESS');
  assert.equal(await domo.datasets.exportData(stream.dataSet.id), CSV);

  const aborted = await domo.streams.createExecution(id);
  assert.equal((await domo.streams.abort(id, aborted.id)).currentState, 'ABORTED');
  await domo.streams.createExecution(id);
  await domo.streams.abort(id);
  const states = (await domo.streams.listExecutions(id, 50, 0)).map((found) => found.currentState);
  assert.deepEqual(states, ['SUCCESS', 'ABORTED', 'ABORTED']);
  await domo.streams.delete(id);
  await domo.datasets.delete(stream.dataSet.id);
}

async function usersAndGroups(domo) {
  const ada = { name: 'Ada Lovelace', email: 'ada@example.com', role: ROLES[ROLES.Admin] };
  const user = await domo.users.create(ada, false);
  assert.equal((await domo.users.get(user.id)).email, ada.email);
  assert.equal((await domo.users.list(10, 0)).length, 2);
  assert.equal((await domo.users.update(user.id, { ...ada, title: 'Countess' })).title, 'Countess');

  const group = await domo.groups.create({ name: 'Programmers' });
  await domo.groups.addUser(group.id, user.id);
  assert.deepEqual(await domo.groups.listUsers(group.id, 10, 0), [user.id]);
  await domo.groups.update(group.id, { name: 'Analysts', active: true });
  assert.equal((await domo.groups.get(group.id)).name, 'Analysts');
  assert.equal((await domo.groups.list(10, 0))[0].memberCount, 1);
  await domo.groups.removeUser(group.id, user.id);
  await domo.groups.delete(group.id);
  await domo.users.delete(user.id);
  await rejects(domo.users.get(user.id), 404);
}

async function scopes(client) {
  const domo = client([API_SCOPE.USER]);
  await rejects(domo.datasets.list(10, 0), 403);
  assert.equal((await domo.users.list(10, 0)).length, 1);
}

async function main([host, id, secret]) {
  const client = (scope) => new DomoClient(id, secret, scope, host);
  const domo = client([API_SCOPE.USER, API_SCOPE.DATA]);
  for (const part of [datasets, streams, usersAndGroups]) {
    await part(domo);
    console.log(`${part.name}: ok`);
  }
  await scopes(client);
  console.log('scopes: ok');
}

main(process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});

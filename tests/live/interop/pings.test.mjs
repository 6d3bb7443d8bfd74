// Pings and their answers, on a server that sends them often.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { TRANSPORTS, call, connect } from './clients.mjs';

test('connections outlive their pings', async () => {
  const url = process.env.BRISK_URL;
  const clients = await Promise.all(
    TRANSPORTS.map((transport) => connect({ transport, url, maxServerPingDelay: 1000 })),
  );

  await Promise.all(clients.map((client) => call(client, 'outlive_pings')));

  for (const client of clients) assert.equal(client.events.of('connecting').length, 1);
});

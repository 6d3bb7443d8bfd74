// Servers that die, and Redis connections that break, with clients of every transport.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import WebSocket from 'ws';

import { TRANSPORTS, backstage, channelIn, connect, connectAs, subscribe, userName }
  from './clients.mjs';

const each = (make) => Promise.all(TRANSPORTS.map(make));

test('a server that is killed and restarted has lost nothing for its clients', async () => {
  const url = process.env.OTHER_URL;
  const user = userName();
  const [channel, personal] = [
    channelIn('open'), `user:${await backstage('user', { name: user })}`,
  ];
  const clients = await each((transport) => connectAs(user, { transport, url }));
  const subs = await Promise.all(
    clients.map((client) => subscribe(client, channel, { recoverable: true })),
  );
  await backstage('publish', { channel, payloads: [1, 2] });
  await backstage('publish', { channel: personal, payloads: ['a'] });
  await Promise.all(subs.map((sub) => sub.events.until('publication', 2)));
  await Promise.all(clients.map((client) => client.events.until('publication')));

  await backstage('kill', { name: 'other' });
  await Promise.all(clients.map((client) => client.events.until('connecting', 2)));
  await backstage('publish', { channel, payloads: [3, 4, 5] });
  await backstage('publish', { channel: personal, payloads: ['b', 'c'] });
  await backstage('restart', { name: 'other' });
  const again = await Promise.all(subs.map((sub) => sub.events.until('subscribed', 2)));
  await backstage('publish', { channel, payloads: [6] });
  await backstage('publish', { channel: personal, payloads: ['d'] });
  await Promise.all(subs.map((sub) => sub.events.until('publication', 6)));
  await Promise.all(clients.map((client) => client.events.until('publication', 4)));

  for (const [index, transport] of TRANSPORTS.entries()) {
    const { wasRecovering, recovered } = again[index];
    assert.deepEqual([wasRecovering, recovered], [true, true], transport);
    assert.deepEqual(subs[index].events.payloads, [1, 2, 3, 4, 5, 6], transport);
    assert.deepEqual(clients[index].events.payloads, ['a', 'b', 'c', 'd'], transport);
  }
});

test('a server that ends says so, and its clients come back', async () => {
  const url = process.env.OTHER_URL;
  const clients = await each((transport) => connect({ transport, url }));

  await backstage('end', { name: 'other' });
  const gone = await Promise.all(clients.map((client) => client.events.until('connecting', 2)));
  await backstage('restart', { name: 'other' });
  await Promise.all(clients.map((client) => client.events.until('connected', 2)));

  for (const { code, reason } of gone) assert.deepEqual([code, reason], [3001, 'shutdown']);
});

test('a broken connection to Redis costs no message', async () => {
  const channel = channelIn('open');
  const clients = await each((transport) => connect({ transport }));
  const subs = await Promise.all(
    clients.map((client) => subscribe(client, channel, { recoverable: true })),
  );

  for (const number of [1, 2, 3, 4, 5]) {
    await backstage('publish', { channel, payloads: [number] });
    await backstage('cut');
    await backstage('publish', { channel, payloads: [number + 0.5] });
  }
  await Promise.all(subs.map((sub) => sub.events.until('publication', 10)));

  const expected = [1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5];
  for (const [index, transport] of TRANSPORTS.entries()) {
    assert.deepEqual(subs[index].events.payloads, expected, transport);
    assert.equal(clients[index].events.of('connecting').length, 1, transport);
  }
});

test('personal channels are followed over broken connections to Redis, too', async () => {
  const user = userName();
  const channel = `user:${await backstage('user', { name: user })}`;
  const clients = await each((transport) => connectAs(user, { transport }));

  await backstage('publish', { channel, payloads: [1] });
  await Promise.all(clients.map((client) => client.events.until('publication')));
  await backstage('cut');
  await backstage('publish', { channel, payloads: [2] });
  await backstage('publish', { channel, payloads: [3] });
  await Promise.all(clients.map((client) => client.events.until('publication', 3)));

  for (const [index, transport] of TRANSPORTS.entries()) {
    assert.deepEqual(clients[index].events.payloads, [1, 2, 3], transport);
    assert.equal(clients[index].events.of('connecting').length, 1, transport);
  }
});

test('clients learn that Redis has lost what they counted on', async () => {
  const user = userName();
  const channel = `user:${await backstage('user', { name: user })}`;
  const clients = await each((transport) => connectAs(user, { transport }));
  await backstage('publish', { channel, payloads: [1] });
  await Promise.all(clients.map((client) => client.events.until('publication')));

  await backstage('forget', { channel });
  await backstage('cut');

  const again = await Promise.all(clients.map((client) => client.events.until('subscribed', 2)));
  for (const { wasRecovering, recovered } of again) {
    assert.deepEqual([wasRecovering, recovered], [true, false]);
  }
});

test('clients that come and go while much is published miss and repeat nothing', async () => {
  const [user, channel] = [userName(), channelIn('open')];
  await backstage('user', { name: user });
  const wanted = 300;
  const clients = await each((transport) => connectAs(user, { transport }));
  const subs = await Promise.all(
    clients.map((client) => subscribe(client, channel, { recoverable: true })),
  );

  // Each burst is less than what the channel keeps.
  for (let first = 1; first <= wanted; first += 20) {
    const payloads = Array.from({ length: 20 }, (_, index) => first + index);
    const publishing = backstage('publish', { channel, payloads });
    for (const [index, client] of clients.entries()) {
      if ((first + index) % 3) {
        client.disconnect();
        client.connect();
      } else {
        subs[index].unsubscribe();
        subs[index].subscribe();
      }
    }
    await publishing;
    await Promise.all(subs.map((sub) => sub.ready()));
  }
  await Promise.all(subs.map((sub) => sub.events.until('publication', wanted)));

  const expected = Array.from({ length: wanted }, (_, index) => index + 1);
  for (const [index, transport] of TRANSPORTS.entries()) {
    assert.deepEqual(subs[index].events.payloads, expected, transport);
  }
});

test('a client that does not read is sent away, and misses nothing', async () => {
  const sockets = [];
  const websocket = class extends WebSocket {
    constructor(address, protocols) {
      super(address, protocols);
      sockets.push(this);
    }
  };
  const channel = channelIn('forced');
  const client = await connect({ transport: 'websocket', websocket });
  const sub = await subscribe(client, channel, { recoverable: true });
  const numbers = Array.from({ length: 45 }, (_, index) => index);

  sockets[0].pause();
  for (const number of numbers) {
    // More in all than what the two kernels keep for the socket.
    await backstage('publish', { channel, payloads: [String(number).padEnd(400_000)] });
  }
  sockets[0].resume();
  await sub.events.until('publication', numbers.length);

  assert.deepEqual(sub.events.payloads.map(Number), numbers);
  assert.equal((await client.events.until('connecting', 2)).code, 3008);
});

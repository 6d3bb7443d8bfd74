// Who a client is, how long it may stay, and how it is shown out.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import {
  TRANSPORT, backstage, call, channelIn, connect, connectAs, newClient, subscribe, userName,
} from './clients.mjs';

describe(`connections over ${TRANSPORT}`, { concurrency: true }, () => {
  test('an anonymous client connects and is nobody', async () => {
    const client = await connect();

    const { client: id } = await client.events.until('connected');

    assert.match(id, /^[0-9a-f]{32}$/);
    assert.equal(await call(client, 'who'), null);
  });

  test('a token says who a client is', async () => {
    const user = userName();
    const client = await connectAs(user);

    assert.equal(await call(client, 'who'), user);
  });

  test('a session cookie says who a client is', async () => {
    const user = userName();
    const cookie = await backstage('session', { user });
    const client = await connect({ browser: { cookie, origin: process.env.SERVER_URL } });

    assert.equal(await call(client, 'who'), user);
  });

  test('a page of another site is not let in', async () => {
    const user = userName();
    const cookie = await backstage('session', { user });
    const client = newClient({ browser: { cookie, origin: 'http://elsewhere.example' } });

    client.connect();

    const { code } = (await client.events.until('error')).error;
    assert.equal(code, 2);
    assert.equal(client.state, 'connecting');
  });

  test('a header that a browser cannot set says who a client is', async () => {
    const user = userName();
    const token = await backstage('token', { user });
    const client = await connect({ headers: { Authorization: `Bearer ${token}` } });

    assert.equal(await call(client, 'who'), user);
  });

  test('a client that fetches its token connects with it', async () => {
    const user = userName();
    const client = await connect({ getToken: () => backstage('token', { user }) });

    assert.equal(await call(client, 'who'), user);
  });

  test('an expired token is replaced at the first connect', async () => {
    const user = userName();
    const token = await backstage('token', { user, ttl_s: -1 });
    const client = await connect({ token, getToken: () => backstage('token', { user }) });

    assert.equal(await call(client, 'who'), user);
  });

  test('a token that ends is renewed, and the connection stays', async () => {
    const user = userName();
    const asked = [];
    const getToken = async () => {
      asked.push(await backstage('token', { user, ttl_s: 2 }));
      client.emit('message', {});
      return asked.at(-1);
    };
    const client = newClient({ getToken });

    client.connect();
    await client.events.untilTrue(() => asked.length >= 3);

    assert.equal(await call(client, 'who'), user);
    assert.equal(client.events.of('connecting').length, 1);
    assert.deepEqual(client.events.of('error'), []);
  });

  test('a token of somebody else ends a connection that wants to go on', async () => {
    const [user, other] = [userName(), userName()];
    const token = await backstage('token', { user, ttl_s: 4 });
    const client = newClient({ token, getToken: () => backstage('token', { user: other }) });

    client.connect();

    assert.equal((await client.events.until('disconnected')).code, 3500);
  });

  test('a bad token is refused for good', async () => {
    const client = newClient({ token: 'a.bad.token' });

    client.connect();

    const { code, reason } = await client.events.until('disconnected');
    assert.deepEqual([code, reason], [3500, 'invalid token']);
  });

  test('a user is disconnected for good', async () => {
    const user = userName();
    const client = await connectAs(user);

    await backstage('disconnect', { user });

    const { code, reason } = await client.events.until('disconnected');
    assert.deepEqual([code, reason], [3503, 'force disconnect']);
  });

  test('a single connection is told to come back, and does', async () => {
    const client = await connect();
    const { client: first } = await client.events.until('connected');

    await backstage('disconnect', { client: first, code: 'FORCE_RECONNECT' });

    const { client: second } = await client.events.until('connected', 2);
    assert.notEqual(second, first);
    assert.equal((await client.events.until('connecting', 2)).code, 3011);
  });

  test('a user who is no longer active is shown out', async () => {
    const user = userName();
    const client = await connectAs(user);

    await backstage('deactivate', { user });

    assert.equal((await client.events.until('disconnected')).code, 3507);
  });

  test('a user hears his personal channel without asking, also what he missed', async () => {
    const user = userName();
    const channel = `user:${await backstage('user', { name: user })}`;
    const client = await connectAs(user);
    assert.equal((await client.events.until('subscribed')).channel, channel);

    await backstage('publish', { channel, payloads: ['there'] });
    await client.events.until('publication');
    client.disconnect();
    await backstage('publish', { channel, payloads: ['away', 'still away'] });
    client.connect();
    await client.events.until('publication', 3);
    await backstage('publish', { channel, payloads: ['back'] });
    await client.events.until('publication', 4);

    assert.deepEqual(client.events.payloads, ['there', 'away', 'still away', 'back']);
    const again = await client.events.until('subscribed', 2);
    assert.deepEqual([again.wasRecovering, again.recovered], [true, true]);
  });

  test('what a token says of a connection is shown to others', async () => {
    const [user, channel] = [userName(), channelIn('open')];
    const token = await backstage('token', { user, info: { colour: 'green' } });
    const [speaker, hearer] = [await connect({ token }), await connect()];
    const sub = await subscribe(hearer, channel);

    await speaker.publish(channel, speaker.pack('hello'));

    const { info } = await sub.events.until('publication');
    const { client } = await speaker.events.until('connected');
    assert.equal(info.user, await backstage('user', { name: user }));
    assert.equal(info.client, client);
    assert.deepEqual(hearer.unpack(info.connInfo), { colour: 'green' });
  });

  test('a client says goodbye and comes again', async () => {
    const client = await connect();

    client.disconnect();
    await client.events.until('disconnected');
    client.connect();
    await client.events.until('connected', 2);

    assert.equal(await call(client, 'echo', 1), 1);
  });
});

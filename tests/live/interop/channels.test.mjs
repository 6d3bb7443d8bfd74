// Subscriptions: who may have them, what they bring, and how they end.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import {
  TRANSPORT, backstage, call, channelIn, connect, connectAs, newClient, newSub, subscribe,
  userName,
} from './clients.mjs';

const numbers = (first, last) =>
  Array.from({ length: last - first + 1 }, (_, index) => first + index);

describe(`subscriptions over ${TRANSPORT}`, { concurrency: true }, () => {
  test('what is published arrives in order, with offsets', async () => {
    const channel = channelIn('open');
    const client = await connect();
    const sub = await subscribe(client, channel);

    await backstage('publish', { channel, payloads: numbers(1, 20) });
    await sub.events.until('publication', 20);

    assert.deepEqual(sub.events.payloads, numbers(1, 20));
    const offsets = sub.events.of('publication').map(({ offset }) => offset);
    assert.deepEqual(offsets, numbers(1, 20));
  });

  test('payloads of every kind arrive as they were', async () => {
    const channel = channelIn('plain');
    const values = [null, false, 0, '', [], {}, 'line\nline\u2028', { deep: [{ er: null }] }];
    const sub = await subscribe(await connect(), channel);

    await backstage('publish', { channel, payloads: values });
    await sub.events.until('publication', values.length);

    assert.deepEqual(sub.events.payloads, values);
  });

  test('a client hears what it publishes itself', async () => {
    const client = await connect();
    const sub = await subscribe(client, channelIn('plain'));

    await sub.say({ hello: 'world' });

    const { info, offset } = await sub.events.until('publication');
    assert.deepEqual(sub.events.payloads, [{ hello: 'world' }]);
    assert.equal(info.client, (await client.events.until('connected')).client);
    assert.ok(!offset);
  });

  test('many subscriptions are asked for at once', async () => {
    const client = newClient();
    const subs = numbers(1, 30).map(() => newSub(client, channelIn('open')));

    subs.forEach((sub) => sub.subscribe());
    client.connect();
    await Promise.all(subs.map((sub) => sub.events.until('subscribed')));
    await Promise.all(subs.map((sub) => sub.say(sub.channel)));
    await Promise.all(subs.map((sub) => sub.events.until('publication')));

    for (const sub of subs) assert.deepEqual(sub.events.payloads, [sub.channel]);
  });

  test('a channel that a client may not hear is refused', async () => {
    const client = await connect();
    const [secret, members] = ['secret', 'members'].map((name) => channelIn(name));

    for (const channel of [secret, members]) {
      const sub = newSub(client, channel);
      sub.subscribe();
      const { code, reason } = await sub.events.until('unsubscribed');
      assert.deepEqual([code, reason], [103, 'permission denied']);
      await assert.rejects(client.publish(channel, client.pack(1)), { code: 103 });
      await assert.rejects(client.history(channel, { limit: 1 }), { code: 103 });
      await assert.rejects(client.presence(channel), { code: 103 });
    }
  });

  test('a user hears what his row lets him, and only that long', async () => {
    const [user, channel] = [userName(), channelIn('rows')];
    await backstage('enrol', { user, channel });
    const client = await connectAs(user);
    const sub = await subscribe(client, channel);

    await backstage('publish', { channel, payloads: ['for members'] });
    await sub.events.until('publication');
    await backstage('strike_off', { user, channel });

    assert.equal((await sub.events.until('unsubscribed')).code, 2000);
    assert.deepEqual(sub.events.payloads, ['for members']);
  });

  test('the server unsubscribes a connection, and it may come again', async () => {
    const channel = channelIn('open');
    const client = await connect();
    const { client: id } = await client.events.until('connected');
    const sub = await subscribe(client, channel);

    await backstage('unsubscribe', { channel, client: id });
    const { code, reason } = await sub.events.until('unsubscribed');
    assert.deepEqual([code, reason], [2000, 'server unsubscribe']);
    sub.subscribe();
    await sub.events.until('subscribed', 2);
    await sub.say('again');
    await sub.events.until('publication');

    assert.deepEqual(sub.events.payloads, ['again']);
  });

  test('nothing comes after an unsubscribe', async () => {
    const channel = channelIn('plain');
    const client = await connect();
    const sub = await subscribe(client, channel);

    sub.unsubscribe();
    await sub.events.until('unsubscribed');
    await client.publish(channel, client.pack('unheard'));
    sub.subscribe();
    await sub.events.until('subscribed', 2);
    await sub.say('heard');
    await sub.events.until('publication');

    assert.deepEqual(sub.events.payloads, ['heard']);
  });

  test('a connection hears only so many channels', async () => {
    const client = await connect();
    const subs = numbers(1, 129).map(() => newSub(client, channelIn('plain')));

    subs.forEach((sub) => sub.subscribe());

    assert.equal((await subs[128].events.until('unsubscribed')).code, 106);
    await Promise.all(subs.slice(0, 128).map((sub) => sub.events.until('subscribed')));
  });

  test('a client may change its mind quickly', async () => {
    const client = await connect();
    const sub = newSub(client, channelIn('open'));

    for (const _ of numbers(1, 5)) {
      sub.subscribe();
      sub.unsubscribe();
    }
    sub.subscribe();
    await sub.ready();
    await sub.say('settled');
    await sub.events.until('publication');

    assert.deepEqual(sub.events.payloads, ['settled']);
    assert.equal(client.events.of('connecting').length, 1);
  });
});

describe(`subscription tokens over ${TRANSPORT}`, { concurrency: true }, () => {
  test('a token lets a client hear one channel', async () => {
    const channel = channelIn('secret');
    const client = await connect();
    const token = await backstage('subscription_token', { channel });
    const sub = await subscribe(client, channel, { token });

    await backstage('publish', { channel, payloads: ['secret'] });
    await sub.events.until('publication');

    assert.deepEqual(sub.events.payloads, ['secret']);
  });

  test('an expired token is replaced', async () => {
    const [user, channel] = [userName(), channelIn('secret')];
    const client = await connectAs(user);
    const token = await backstage('subscription_token', { channel, user, ttl_s: -1 });
    const getToken = () => backstage('subscription_token', { channel, user });

    const sub = await subscribe(client, channel, { token, getToken });

    assert.equal(sub.state, 'subscribed');
  });

  test('a token that ends is renewed, and the subscription stays', async () => {
    const channel = channelIn('secret');
    const client = await connect();
    const asked = [];
    const sub = newSub(client, channel, {
      getToken: async () => {
        asked.push(await backstage('subscription_token', { channel, ttl_s: 2 }));
        sub.emit('join', {});
        return asked.at(-1);
      },
    });

    sub.subscribe();
    await sub.events.untilTrue(() => asked.length >= 3);
    await call(client, 'echo', 1);

    assert.equal(sub.events.of('subscribing').length, 1);
    assert.deepEqual(sub.events.of('error'), []);
  });

  test('a token of another channel ends the connection', async () => {
    const client = await connect();
    const token = await backstage('subscription_token', { channel: channelIn('secret') });

    newSub(client, channelIn('secret'), { token }).subscribe();

    assert.equal((await client.events.until('disconnected')).code, 3500);
  });
});

describe(`history over ${TRANSPORT}`, { concurrency: true }, () => {
  const filled = async (last = 6) => {
    const [client, channel] = [await connect(), channelIn('open')];
    await backstage('publish', { channel, payloads: numbers(1, last) });
    const ask = async (options) => {
      const found = await client.history(channel, options);
      const values = found.publications.map(({ data }) => client.unpack(data));
      return { ...found, values };
    };
    return { client, channel, ask };
  };

  test('a limit of 0 tells the position only', async () => {
    const { ask } = await filled();

    const { values, offset, epoch } = await ask({ limit: 0 });

    assert.deepEqual([values, offset], [[], 6]);
    assert.ok(epoch);
  });

  test('all of it, a part, and backwards', async () => {
    const { ask } = await filled();
    const { epoch } = await ask();

    assert.deepEqual((await ask({ limit: -1 })).values, [1, 2, 3, 4, 5, 6]);
    assert.deepEqual((await ask({ limit: 2 })).values, [1, 2]);
    assert.deepEqual((await ask({ limit: 2, reverse: true })).values, [6, 5]);
    const since = { offset: 4, epoch };
    assert.deepEqual((await ask({ limit: -1, since })).values, [5, 6]);
    assert.deepEqual((await ask({ limit: 1, since })).values, [5]);
    assert.deepEqual((await ask({ limit: 2, since, reverse: true })).values, [3, 2]);
    assert.deepEqual((await ask({ limit: -1, since: { offset: 6, epoch } })).values, []);
  });

  test('offsets go with the publications', async () => {
    const { ask } = await filled(3);

    const { publications } = await ask({ limit: -1 });

    assert.deepEqual(publications.map(({ offset }) => offset), [1, 2, 3]);
  });

  test('what cannot be asked has a code', async () => {
    const { ask, client } = await filled();
    const since = { offset: 1, epoch: 'another' };

    await assert.rejects(ask({ limit: 1, since }), { code: 112 });
    await assert.rejects(client.history(channelIn('plain'), { limit: 1 }), { code: 108 });
  });
});

describe(`presence over ${TRANSPORT}`, { concurrency: true }, () => {
  test('who is there is listed and counted', async () => {
    const [user, channel] = [userName(), channelIn('open')];
    const pk = await backstage('user', { name: user });
    const clients = await Promise.all([connectAs(user), connectAs(user), connect()]);
    await Promise.all(clients.map((client) => subscribe(client, channel)));
    const ids = clients.map((client) => client.events.of('connected')[0].client);
    const watcher = await subscribe(await connect(), channel);
    // A subscription is confirmed before its presence is.
    await watcher.events.untilTrue(() => watcher.events.of('join').length >= 1);

    const { clients: present } = await watcher.presence();
    const counts = await watcher.presenceStats();

    assert.deepEqual([counts.numClients, counts.numUsers], [4, 2]);
    for (const id of ids) assert.equal(present[id].client, id);
    assert.deepEqual(ids.map((id) => present[id].user), [pk, pk, '']);
  });

  test('comings and goings are told', async () => {
    const channel = channelIn('open');
    const [watching, visiting] = [await connect(), await connect()];
    const watcher = await subscribe(watching, channel);
    await watcher.events.until('join');
    const visitor = await subscribe(visiting, channel);
    const { client: id } = await visiting.events.until('connected');
    const { client: own } = await watching.events.until('connected');

    await watcher.events.until('join', 2);
    visitor.unsubscribe();
    await watcher.events.until('leave');
    visitor.subscribe();
    await watcher.events.until('join', 3);
    visiting.disconnect();
    await watcher.events.until('leave', 2);

    const said = watcher.events.all
      .filter(([name]) => name === 'join' || name === 'leave')
      .map(([name, { info }]) => [name, info.client]);
    assert.deepEqual(said, [
      ['join', own], ['join', id], ['leave', id], ['join', id], ['leave', id],
    ]);
    assert.equal((await watcher.presenceStats()).numClients, 1);
  });

  test('what a token says of a subscription is shown to others', async () => {
    const channel = channelIn('open');
    const watcher = await subscribe(await connect(), channel);
    await watcher.events.until('join');
    const token = await backstage('subscription_token', { channel, info: { seat: 7 } });

    const visiting = await connect();
    await subscribe(visiting, channel, { token });

    const { info } = await watcher.events.until('join', 2);
    assert.deepEqual(visiting.unpack(info.chanInfo), { seat: 7 });
  });

  test('a channel without presence says so', async () => {
    const client = await connect();

    await assert.rejects(client.presence(channelIn('plain')), { code: 108 });
    await assert.rejects(client.presenceStats(channelIn('plain')), { code: 108 });
  });
});

describe(`recovery over ${TRANSPORT}`, { concurrency: true }, () => {
  for (const [namespace, options] of [
    ['open', { recoverable: true }],
    ['rows', {}],
  ]) {
    test(`what was missed comes once and in order, in ${namespace}`, async () => {
      const [user, channel] = [userName(), channelIn(namespace)];
      await backstage('enrol', { user, channel });
      const client = await connectAs(user);
      const sub = await subscribe(client, channel, options);

      await backstage('publish', { channel, payloads: [1, 2] });
      await sub.events.until('publication', 2);
      client.disconnect();
      await backstage('publish', { channel, payloads: [3, 4, 5] });
      client.connect();
      const again = await sub.events.until('subscribed', 2);
      await backstage('publish', { channel, payloads: [6] });
      await sub.events.until('publication', 6);

      assert.deepEqual(sub.events.payloads, numbers(1, 6));
      assert.ok(again.wasRecovering && again.recovered && again.recoverable);
    });
  }

  test('nothing missed is recovered too', async () => {
    const client = await connect();
    const sub = await subscribe(client, channelIn('forced'), { recoverable: true });

    client.disconnect();
    client.connect();

    const again = await sub.events.until('subscribed', 2);
    assert.deepEqual([again.wasRecovering, again.recovered], [true, true]);
  });

  test('what is stored no more is not recovered, and nothing comes of it', async () => {
    const channel = channelIn('short');
    await backstage('publish', { channel, payloads: numbers(1, 9) });
    const client = await connect();
    const { epoch } = await client.history(channel, { limit: 0 });

    const sub = await subscribe(client, channel, { since: { offset: 1, epoch } });
    await sub.say(10);
    await sub.events.until('publication');

    const { wasRecovering, recovered, streamPosition } = await sub.events.until('subscribed');
    assert.deepEqual([wasRecovering, recovered], [true, false]);
    assert.equal(streamPosition.offset, 9);
    assert.deepEqual(sub.events.payloads, [10]);
  });

  test('a first subscribe may begin in the past', async () => {
    const channel = channelIn('open');
    await backstage('publish', { channel, payloads: [1, 2, 3] });
    const client = await connect();
    const { epoch } = await client.history(channel, { limit: 0 });

    const sub = await subscribe(client, channel, { since: { offset: 1, epoch } });
    await sub.events.until('publication', 2);

    assert.deepEqual(sub.events.payloads, [2, 3]);
  });

  test('a history that begins anew makes the client subscribe again', async () => {
    const channel = channelIn('open');
    const client = await connect();
    const sub = await subscribe(client, channel, { recoverable: true });

    await backstage('publish', { channel, payloads: [1, 2] });
    await sub.events.until('publication', 2);
    await backstage('forget', { channel });
    await backstage('publish', { channel, payloads: ['new'] });
    const again = await sub.events.until('subscribed', 2);
    await backstage('publish', { channel, payloads: ['newer'] });
    await sub.events.untilTrue(() => sub.events.payloads.includes('newer'));

    assert.equal((await sub.events.until('subscribing', 2)).code, 2500);
    assert.deepEqual([again.wasRecovering, again.recovered], [true, false]);
    assert.deepEqual(sub.events.payloads, [1, 2, 'newer']);
    assert.equal(client.events.of('connecting').length, 1);
  });

  test('a state that is loaded goes with its position', async () => {
    const channel = channelIn('open');
    await backstage('publish', { channel, payloads: [1, 2] });
    const client = await connect();
    const loaded = [];
    const getState = async () => {
      const { offset, epoch } = await client.history(channel, { limit: 0 });
      loaded.push(offset);
      // Comes between the state and the subscription.
      if (loaded.length === 1) await backstage('publish', { channel, payloads: [3] });
      return { offset, epoch };
    };

    const sub = await subscribe(client, channel, { getState });
    await sub.events.until('publication');
    await backstage('forget', { channel });
    await backstage('publish', { channel, payloads: ['new'] });
    await sub.events.until('subscribed', 2);
    await backstage('publish', { channel, payloads: ['newer'] });
    await sub.events.until('publication', 2);

    assert.deepEqual(loaded, [2, 1]);
    assert.deepEqual(sub.events.payloads, [3, 'newer']);
  });
});

// Posts beside a stream that reach another process than the one with the stream.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { backstage, call, channelIn, connect, newSub, subscribe } from './clients.mjs';

const STREAMS = ['http_stream', 'sse'];
const { SERVER_URL, OTHER_URL, PAIR_URL } = process.env;

for (const transport of STREAMS) {
  describe(`posts beside ${transport}`, { concurrency: true }, () => {
    test('may go to another server', async () => {
      const emulation = `${OTHER_URL}/emulation`;
      const client = await connect({ transport, url: SERVER_URL, emulation });
      const sub = await subscribe(client, channelIn('open'));

      await sub.say('hello');
      await sub.events.until('publication');
      sub.unsubscribe();
      await sub.events.until('unsubscribed');

      assert.deepEqual(sub.events.payloads, ['hello']);
      assert.equal(await call(client, 'echo', 'still there'), 'still there');
    });

    test('may go to any worker', async () => {
      const clients = await Promise.all(
        Array.from({ length: 12 }, () => connect({ transport, url: PAIR_URL })),
      );
      const channel = channelIn('open');
      const subs = clients.map((client) => newSub(client, channel));
      subs.forEach((sub) => sub.subscribe());
      await Promise.all(subs.map((sub) => sub.events.until('subscribed')));

      await Promise.all(subs.map((sub, index) => sub.say(index)));
      await Promise.all(subs.map((sub) => sub.events.until('publication', subs.length)));

      const first = subs[0].events.payloads;
      assert.equal(new Set(first).size, subs.length);
      for (const sub of subs) assert.deepEqual(sub.events.payloads, first);
      const counts = await subs[0].presenceStats();
      assert.equal(counts.numClients, subs.length);
    });

    test('are refused for a stream of somebody else', async () => {
      const posts = [];
      const recorder = (url, options) => {
        if (String(url).endsWith('/emulation')) posts.push(JSON.parse(options.body));
        return fetch(url, options);
      };
      const client = await connect({ transport, fetch: recorder });
      await call(client, 'echo', 1);
      const stolen = { ...posts[0], node: 'another' };

      const post = (body, headers = {}) =>
        fetch(`${SERVER_URL}/emulation`, { method: 'POST', body: JSON.stringify(body), headers });

      assert.equal((await post(posts[0])).status, 204);
      assert.equal((await post(stolen)).status, 403);
      assert.equal((await post({ data: '{}' })).status, 400);
    });

    test('bring a client back whose server is gone', async () => {
      const client = await connect({
        transport, url: PAIR_URL, emulation: `${SERVER_URL}/emulation`,
      });
      const { client: first } = await client.events.until('connected');

      await backstage('disconnect', { client: first, code: 'FORCE_RECONNECT' });
      await client.events.until('connected', 2);

      assert.equal(await call(client, 'echo', 'back'), 'back');
    });
  });
}

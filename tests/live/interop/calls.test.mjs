// Procedures, and messages that want no answer.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { TRANSPORT, call, channelIn, connect, subscribe } from './clients.mjs';

describe(`calls over ${TRANSPORT}`, { concurrency: true }, () => {
  for (const value of [
    null, 0, -1.5, '', 'text', 'Grüße 🌍 \u2028 \n"', [], {}, [1, [2, { three: 4 }]],
  ]) {
    test(`${JSON.stringify(value)} comes back as it was`, async () => {
      const client = await connect();

      assert.deepEqual(await call(client, 'echo', value), value);
    });
  }

  test('a long text comes back as it was', async () => {
    const client = await connect();
    const text = 'ü"'.repeat(10_000);

    assert.equal(await call(client, 'echo', text), text);
  });

  test('many calls at once are all answered', async () => {
    const client = await connect();
    const numbers = Array.from({ length: 10 }, (_, index) => index);

    const answers = await Promise.all(numbers.map((number) => call(client, 'echo', number)));

    assert.deepEqual(answers, numbers);
  });

  test('a slow call does not hold up the next', async () => {
    const client = await connect();
    const door = channelIn('door');

    const slow = call(client, 'wait_at_door', door);
    await call(client, 'open_door', door);

    assert.equal(await slow, 'through');
  });

  test('data is converted as the procedure wants it', async () => {
    const client = await connect();

    assert.equal(await call(client, 'add', { a: 1, b: 2 }), 3);
    await assert.rejects(call(client, 'add', { a: 1, b: 'two' }), { code: 107 });
  });

  test('a failure has its code, and the connection stays', async () => {
    const client = await connect();

    await assert.rejects(call(client, 'refuse'), { code: 1001, message: 'not today' });
    await assert.rejects(call(client, 'forbid'), { code: 103 });
    await assert.rejects(call(client, 'fail'), { code: 100 });
    await assert.rejects(call(client, 'unheard_of'), { code: 104 });

    assert.equal(await call(client, 'echo', 'alive'), 'alive');
  });

  test('a message that wants no answer reaches the site', async () => {
    const client = await connect();
    const channel = channelIn('plain');
    const sub = await subscribe(client, channel);

    await client.send(client.pack({ channel, text: 'hello' }));

    await sub.events.until('publication');
    assert.deepEqual(sub.events.payloads, [{ sent: 'hello' }]);
  });
});

-- Puts a job into its queue, or among those that are due later, and wakes workers.
--
-- KEYS  jobs, later, id ('' where nobody could send it twice: then only two keys)
-- ARGV  1 header, 2 payload, 3 due at (ms, 0 now), 4 expires at (ms, 0 never), 5 most jobs,
--       6 how long the id is kept (s), 7 pub/sub channel of the queue, 8 what wakes workers,
--       9 the queue's name
-- Returns 1 if it was put there, 0 if it was before; an error QUEUEFULL.
local jobs, later, id = KEYS[1], KEYS[2], KEYS[3]
if id and redis.call('EXISTS', id) == 1 then
  return 0
end
if redis.call('XLEN', jobs) + redis.call('ZCARD', later) >= tonumber(ARGV[5]) then
  return redis.error_reply('QUEUEFULL ' .. ARGV[5] .. ' ' .. ARGV[9])
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if tonumber(ARGV[3]) > now then
  redis.call('ZADD', later, ARGV[3], cmsgpack.pack({ARGV[1], ARGV[2], ARGV[4], '0'}))
else
  redis.call('XADD', jobs, '*', 'h', ARGV[1], 'd', ARGV[2], 'x', ARGV[4], 'a', '0')
end
if id then
  redis.call('SET', id, '1', 'EX', ARGV[6])
end
redis.call('PUBLISH', ARGV[7], ARGV[8])
return 1

-- Puts a dead letter back into its queue, as if it had just been sent for the first time.
--
-- KEYS  jobs, later, dead
-- ARGV  1 entry, 2 most jobs, 3 pub/sub channel of the queue, 4 what wakes workers,
--       5 the queue's name
-- Returns 1, 0 if it is not there; an error QUEUEFULL.
local found = redis.call('XRANGE', KEYS[3], ARGV[1], ARGV[1])[1]
if not found then
  return 0
end
if redis.call('XLEN', KEYS[1]) + redis.call('ZCARD', KEYS[2]) >= tonumber(ARGV[2]) then
  return redis.error_reply('QUEUEFULL ' .. ARGV[2] .. ' ' .. ARGV[5])
end
local fields = {}
for i = 1, #found[2], 2 do
  fields[found[2][i]] = found[2][i + 1]
end
redis.call('XADD', KEYS[1], '*', 'h', fields.h, 'd', fields.d, 'x', '0', 'a', '0')
redis.call('XDEL', KEYS[3], ARGV[1])
redis.call('PUBLISH', ARGV[3], ARGV[4])
return 1

-- Reads a channel's position and, if asked, what its history holds, in one step.
--
-- KEYS  meta, stream
-- ARGV  1 offset to begin after (or before, in reverse; '' for the end), 2 limit,
--       3 'f' oldest first, 'r' newest first, 't' oldest first and up to the end: of more
--       than the limit, the newest; 4 meta ttl, 5 epoch to begin with ('' to begin none),
--       6 epoch in which the offset was seen, 7 epoch to go on with after a loss, 8 and 9
--       the server's replication id and the one before
-- Returns {epoch, offset, entries}; {'', 0, {}} for a channel that has no history.
local meta, stream = KEYS[1], KEYS[2]
local limit = tonumber(ARGV[2])

local state = redis.call('HMGET', meta, 'e', 's', 'r')
local epoch, offset = state[1], tonumber(state[2] or 0)
if not epoch then
  if ARGV[5] == '' then return {'', 0, {}} end
  -- A position handed out now must be the one that the first publish continues.
  epoch = ARGV[5]
  redis.call('HSET', meta, 'e', epoch)
end
if ARGV[8] ~= '' and state[3] ~= ARGV[8] then
  -- Another server than the one that wrote last. If it was its replica until now, it may
  -- lack what that one said last.
  if state[3] and state[3] == ARGV[9] then
    epoch = ARGV[7]
    redis.call('HSET', meta, 'e', epoch)
  end
  redis.call('HSET', meta, 'r', ARGV[8])
end
if ARGV[6] ~= '' and epoch == ARGV[6] and tonumber(ARGV[1]) > offset then
  -- What was seen is no longer here: its offsets must not be given to other messages.
  epoch = ARGV[7]
  redis.call('HSET', meta, 'e', epoch)
end
-- A position that no message ever followed is not kept for as long.
redis.call('EXPIRE', meta, offset > 0 and ARGV[4] or math.min(ARGV[4], 86400))

local entries = {}
if limit > 0 and offset > 0 then
  if ARGV[3] == 'r' then
    local from = ARGV[1] ~= '' and '(' .. ARGV[1] .. '-0' or '+'
    entries = redis.call('XREVRANGE', stream, from, '-', 'COUNT', limit)
  else
    local after = tonumber(ARGV[1]) or 0
    if ARGV[3] == 't' then after = math.max(after, offset - limit) end
    local from = string.format('(%.0f-0', after)
    entries = redis.call('XRANGE', stream, from, '+', 'COUNT', limit)
  end
end
return {epoch, offset, entries}

-- Gives a message its place in a channel's history and sends it, in one step, so that the
-- history's order is the order every subscriber sees.
--
-- KEYS  meta, stream, versions, live; out of an outbox also: outbox, id
-- ARGV  1 header, 2 payload, 3 history size, 4 history ttl (both 0: forget it), 5 meta ttl,
--       6 epoch to begin with, 7 row, 8 version, 9 PUBLISH or SPUBLISH, 10 '1' to join a
--       history that there is and begin none; out of an outbox also, else '': 11 its name, 12 fencing number,
--       13 holder, 14 the message's number in the outbox, 15 the message's id, 16 the number
--       of the channel's message in front of it in one round trip, 0 before the first, ''
--       where it goes alone; 17 and 18 the server's replication id and the one before
-- Returns {epoch, offset, how}, how being 1 if sent, 0 if a newer version of the row was
-- sent before, 3 if the message was there already; {'', highest number seen, 2} if another
-- holder has published since; {'', 0, 4} if the one in front was not sent.
local meta, stream, versions, live = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local size, ttl, meta_ttl = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local from_outbox = (ARGV[11] or '') ~= ''
local may_be_out = false
local ID_TTL, FENCE_TTL, VERSIONS_MAX = 300, 86400, 5000

-- The message is settled: the one behind it may come.
local function settled(epoch, offset, how)
  if from_outbox and (ARGV[16] or '') ~= '' then
    redis.call('HSET', KEYS[5], ARGV[11] .. '\0', ARGV[14])
  end
  return {epoch, offset, how}
end

if ARGV[10] == '1' and redis.call('EXISTS', meta) == 0 then size = 0 end

if from_outbox then
  local known = redis.call('HGET', KEYS[5], ARGV[11])
  local number, holder, last = string.match(known or '', '^(%d+):([^:]*):(%d+)$')
  local top = ARGV[14]
  if number then
    local seen, mine = tonumber(number), tonumber(ARGV[12])
    -- Of two holders with one number the one that came first is in doubt, not in the right:
    -- whoever still has the lock comes back with a higher number.
    if seen > mine or (seen == mine and holder ~= ARGV[13]) then
      return {'', seen, 2}
    end
    if tonumber(top) <= tonumber(last) then may_be_out, top = true, last end
  end
  local front = ARGV[16] or ''
  if front ~= '' and front ~= '0'
      and redis.call('HGET', KEYS[5], ARGV[11] .. '\0') ~= front then
    return {'', 0, 4}
  end
  redis.call('HSET', KEYS[5], ARGV[11], ARGV[12] .. ':' .. ARGV[13] .. ':' .. top)
  redis.call('EXPIRE', KEYS[5], math.max(size > 0 and meta_ttl or 0, FENCE_TTL))
end

-- A message whose number is above all that came before is new. Any other is a second
-- attempt, or was committed late: it is looked for where it would be.
if may_be_out then
  if redis.call('EXISTS', KEYS[6]) == 1 then return settled('', 0, 3) end
  local epoch = redis.call('HGET', meta, 'e')
  local begin, newest = '{"id":"' .. ARGV[15] .. '"', '+'
  while epoch and newest do
    -- Few at a time: payloads come along.
    local entries = redis.call('XREVRANGE', stream, newest, '-', 'COUNT', 10)
    newest = nil
    for _, entry in ipairs(entries) do
      newest = '(' .. entry[1]
      if string.sub(entry[2][2], 1, #begin) == begin then
        return settled(epoch, tonumber(string.match(entry[1], '^%d+')), 3)
      end
    end
  end
end

if ARGV[8] ~= '' then
  -- Versions have one width, so that text order is number order.
  local before = versions .. '-before'
  local known = redis.call('HGET', versions, ARGV[7])
  if not known then
    -- Not kept for ever: of the rows that changed last, as many as two hashes hold.
    known = redis.call('HGET', before, ARGV[7])
    if redis.call('HLEN', versions) >= VERSIONS_MAX then
      redis.call('RENAME', versions, before)
    end
  end
  if known and known > ARGV[8] then
    local state = redis.call('HMGET', meta, 'e', 's')
    return settled(state[1] or '', tonumber(state[2] or 0), 0)
  end
  redis.call('HSET', versions, ARGV[7], ARGV[8])
  redis.call('EXPIRE', versions, meta_ttl)
end

local epoch, offset = '', 0
if size > 0 then
  local state = redis.call('HMGET', meta, 'e', 'r')
  epoch = state[1]
  local id, before = ARGV[17] or '', ARGV[18] or ''
  if not epoch or (id ~= '' and state[2] ~= id and state[2] and state[2] == before) then
    -- Begun now; or the server was a replica when this was last written to, and may lack
    -- what was said last: those offsets must not pass for others.
    epoch = ARGV[6]
    redis.call('HSET', meta, 'e', epoch)
  end
  if id ~= '' and state[2] ~= id then redis.call('HSET', meta, 'r', id) end
  offset = tonumber(redis.call('HGET', meta, 's') or 0) + 1
  if offset == 1 then
    -- The meta key was lost and the stream was not: entries of another epoch.
    redis.call('DEL', stream)
  end
  -- Before the offset is taken: one that Redis refuses must not leave a gap.
  redis.call('XADD', stream, 'MAXLEN', size, string.format('%.0f-0', offset),
    'h', ARGV[1], 'd', ARGV[2])
  redis.call('HINCRBY', meta, 's', 1)
  redis.call('EXPIRE', meta, meta_ttl)
  redis.call('EXPIRE', stream, ttl)
else
  -- Kept for no time at all: nor is what was kept before.
  if ttl == 0 then redis.call('DEL', stream) end
  if from_outbox then redis.call('SET', KEYS[6], '', 'EX', ID_TTL) end
end

redis.call(ARGV[9], live,
  '1:' .. string.format('%.0f', offset) .. ':' .. epoch .. ':' .. ARGV[1] .. '\n' .. ARGV[2])
return settled(epoch, offset, 1)

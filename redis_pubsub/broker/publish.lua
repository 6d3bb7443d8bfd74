-- Gives a message its place in a channel's history and sends it, in one step, so that the
-- history's order is the order every subscriber sees.
--
-- KEYS  meta, stream, versions, live
-- ARGV  1 header, 2 payload, 3 history size, 4 history ttl, 5 meta ttl, 6 epoch to begin
--       with, 7 row, 8 version, 9 PUBLISH or SPUBLISH, 10 '1' to join a history that there
--       is and begin none, 11 and 12 the server's replication id and the one before
-- Returns {epoch, offset, 1 if sent or 0 if a newer version of the row was sent before}.
local meta, stream, versions, live = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local size, ttl, meta_ttl = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])

if ARGV[8] ~= '' then
  -- Versions have one width, so that text order is number order.
  local known = redis.call('HGET', versions, ARGV[7])
  if known and known > ARGV[8] then
    local state = redis.call('HMGET', meta, 'e', 's')
    return {state[1] or '', tonumber(state[2] or 0), 0}
  end
  redis.call('HSET', versions, ARGV[7], ARGV[8])
  redis.call('EXPIRE', versions, meta_ttl)
end

if ARGV[10] == '1' and redis.call('EXISTS', meta) == 0 then size = 0 end

local epoch, offset = '', 0
if size > 0 then
  local state = redis.call('HMGET', meta, 'e', 'r')
  epoch = state[1]
  local id, before = ARGV[11] or '', ARGV[12] or ''
  if not epoch or (id ~= '' and state[2] ~= id and state[2] and state[2] == before) then
    -- Begun now; or the server was a replica when this was last written to, and may lack
    -- what was said last: those offsets must not pass for others.
    epoch = ARGV[6]
    redis.call('HSET', meta, 'e', epoch)
  end
  if id ~= '' and state[2] ~= id then redis.call('HSET', meta, 'r', id) end
  offset = redis.call('HINCRBY', meta, 's', 1)
  redis.call('EXPIRE', meta, meta_ttl)
  if offset == 1 then
    -- The meta key was lost and the stream was not: entries of another epoch.
    redis.call('DEL', stream)
  end
  redis.call('XADD', stream, 'MAXLEN', size, offset .. '-0', 'h', ARGV[1], 'd', ARGV[2])
  redis.call('EXPIRE', stream, ttl)
end

redis.call(ARGV[9], live,
  '1:' .. offset .. ':' .. epoch .. ':' .. ARGV[1] .. '\n' .. ARGV[2])
return {epoch, offset, 1}

-- Ends a worker's job in one step: forgets it, puts it off, or lays it aside.
--
-- KEYS  jobs, later, dead
-- ARGV  1 group, 2 worker, 3 entry, 4 'done', 'later' or 'dead', 5 failed attempts,
--       6 ms until it is due again, 7 the error's text, 8 most dead letters
-- Returns 1; 0 if the job is not this worker's any more: somebody took it over.
local jobs, later, dead = KEYS[1], KEYS[2], KEYS[3]
local group, entry, how = ARGV[1], ARGV[3], ARGV[4]
local held = redis.pcall('XPENDING', jobs, group, entry, entry, 1)
if held.err or not held[1] or held[1][2] ~= ARGV[2] then
  return 0
end
if how ~= 'done' then
  local found = redis.call('XRANGE', jobs, entry, entry)[1]
  if not found then
    -- Somebody took it out of the stream: there is nothing left to put off or aside.
    redis.call('XACK', jobs, group, entry)
    return 0
  end
  local fields = {}
  for i = 1, #found[2], 2 do
    fields[found[2][i]] = found[2][i + 1]
  end
  if how == 'later' then
    local time = redis.call('TIME')
    local due = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[6])
    redis.call(
      'ZADD', later, due,
      cmsgpack.pack({fields.h or '', fields.d or '', fields.x or '0', ARGV[5]}))
  else
    redis.call(
      'XADD', dead, 'MAXLEN', '~', ARGV[8], '*',
      'h', fields.h or '', 'd', fields.d or '', 'a', ARGV[5], 'e', ARGV[7])
  end
end
redis.call('XACK', jobs, group, entry)
redis.call('XDEL', jobs, entry)
return 1

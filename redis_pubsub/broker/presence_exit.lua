-- Takes a member out of a channel's list and says so, in one step.
--
-- KEYS  members (client to value), users (user to connections), nodes (node to members)
-- ARGV  1 client, 2 the value it must have or '' for any, 3 '1' to announce a user's last
--       connection only, 4 pub/sub channel, 5 header or '' for no announcement, 6 info
-- Returns 1 if the member was there.
local members, users, nodes = KEYS[1], KEYS[2], KEYS[3]
local client, expected = ARGV[1], ARGV[2]

local function less(key, field)
  local left = redis.call('HINCRBY', key, field, -1)
  if left <= 0 then
    redis.call('HDEL', key, field)
  end
  return left
end

local before = redis.call('HGET', members, client)
if not before or (expected ~= '' and before ~= expected) then
  return 0
end

redis.call('HDEL', members, client)
local node, user = string.match(before, '^(%S+) %S+ ([^\n]*)\n')
local left = 0
if node then
  less(nodes, node)
  left = less(users, user)
end
if redis.call('EXISTS', members) == 0 then
  redis.call('DEL', users, nodes)
end

-- '""' is the user of all anonymous members.
if ARGV[5] ~= '' and (ARGV[3] == '0' or user == '""' or left <= 0) then
  redis.call('PUBLISH', ARGV[4], '1:0::' .. ARGV[5] .. '\n' .. ARGV[6])
end
return 1

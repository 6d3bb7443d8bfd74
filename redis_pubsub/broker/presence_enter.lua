-- Puts a member into a channel's list and says so, in one step, so that announcements come
-- in the order of the list's changes.
--
-- KEYS  members (client to value), users (user to connections), nodes (node to members)
-- ARGV  1 client, 2 node, 3 user, 4 value, 5 ttl, 6 '1' to announce a user's first
--       connection only, 7 pub/sub channel, 8 header or '' for no announcement, 9 info
-- Returns 1 if the member is new.
local members, users, nodes = KEYS[1], KEYS[2], KEYS[3]
local client, node, user, value = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local function less(key, field)
  if redis.call('HINCRBY', key, field, -1) <= 0 then
    redis.call('HDEL', key, field)
  end
end

if redis.call('EXISTS', members) == 0 then
  -- Counts without members are those of a list that was lost.
  redis.call('DEL', users, nodes)
end
local before = redis.call('HGET', members, client)
if before then
  local old_node, old_user = string.match(before, '^(%S+) %S+ ([^\n]*)\n')
  if old_node then
    less(nodes, old_node)
    less(users, old_user)
  end
end

redis.call('HSET', members, client, value)
redis.call('HINCRBY', nodes, node, 1)
local connections = redis.call('HINCRBY', users, user, 1)
for _, key in ipairs(KEYS) do
  redis.call('EXPIRE', key, ARGV[5])
end

if before then
  return 0
end
-- '""' is the user of all anonymous members.
if ARGV[8] ~= '' and (ARGV[6] == '0' or user == '""' or connections == 1) then
  redis.call('PUBLISH', ARGV[7], '1:0::' .. ARGV[8] .. '\n' .. ARGV[9])
end
return 1

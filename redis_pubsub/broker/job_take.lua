-- Gives jobs to a worker: first those of workers that fell silent, then new ones. Jobs that
-- are due by now join their queue before.
--
-- KEYS  jobs and later of each queue, in the order in which the worker wants them
-- ARGV  1 group, 2 worker, 3 how many, 4 silence (ms) after which a job is taken over, 0 to
--       look for none, 5 how many that are due may join a queue at once
-- Returns {{queue (from 1), entry, header, payload, failed attempts, deliveries} …},
-- number of jobs that were too old, ms until the next one is due (-1: none).
local group, worker, left = ARGV[1], ARGV[2], tonumber(ARGV[3])
local silence, most_due = tonumber(ARGV[4]), ARGV[5]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local taken, expired, next_due = {}, 0, -1

local function forget(jobs, id)
  redis.call('XACK', jobs, group, id)
  redis.call('XDEL', jobs, id)
end

local function take(queue, jobs, entry, deliveries)
  local fields = {}
  for i = 1, #entry[2], 2 do
    fields[entry[2][i]] = entry[2][i + 1]
  end
  local expires = tonumber(fields.x or '0')
  if expires > 0 and expires <= now then
    forget(jobs, entry[1])
    expired = expired + 1
    return
  end
  left = left - 1
  taken[#taken + 1] =
    {queue, entry[1], fields.h or '', fields.d or '', fields.a or '0', deliveries}
end

for queue = 1, #KEYS / 2 do
  local jobs, later = KEYS[2 * queue - 1], KEYS[2 * queue]
  local due = redis.call('ZRANGEBYSCORE', later, '-inf', now, 'LIMIT', 0, most_due)
  for _, member in ipairs(due) do
    local job = cmsgpack.unpack(member)
    redis.call('XADD', jobs, '*', 'h', job[1], 'd', job[2], 'x', job[3], 'a', job[4])
    redis.call('ZREM', later, member)
  end
  local first = redis.call('ZRANGE', later, 0, 0, 'WITHSCORES')
  if first[2] then
    local wait = math.max(0, math.ceil(tonumber(first[2]) - now))
    if next_due < 0 or wait < next_due then
      next_due = wait
    end
  end
  if left > 0 and redis.call('EXISTS', jobs) == 1 then
    -- The group is made with the first job, and anew where Redis lost it.
    redis.pcall('XGROUP', 'CREATE', jobs, group, '0')
    if silence > 0 then
      local silent = redis.call('XPENDING', jobs, group, 'IDLE', silence, '-', '+', left)
      for _, each in ipairs(silent) do
        local entries = redis.call('XCLAIM', jobs, group, worker, silence, each[1])
        if entries[1] then
          take(queue, jobs, entries[1], each[4] + 1)
        else
          redis.call('XACK', jobs, group, each[1])
        end
      end
    end
    while left > 0 do
      local found = redis.call(
        'XREADGROUP', 'GROUP', group, worker, 'COUNT', left, 'STREAMS', jobs, '>')
      if not found then
        break
      end
      for _, entry in ipairs(found[1][2]) do
        take(queue, jobs, entry, 1)
      end
    end
  end
end
return {taken, expired, next_due}

-- Says that a worker still works on its jobs, so that nobody takes them over.
--
-- KEYS  the jobs of each queue
-- ARGV  1 group, 2 worker, then for each job: number of its queue (from 1), entry
-- Returns the places (from 0) of jobs that are not this worker's any more.
local group, worker = ARGV[1], ARGV[2]
local lost = {}
for i = 3, #ARGV, 2 do
  local jobs, entry = KEYS[tonumber(ARGV[i])], ARGV[i + 1]
  local held = redis.pcall('XPENDING', jobs, group, entry, entry, 1)
  if held.err or not held[1] or held[1][2] ~= worker then
    lost[#lost + 1] = (i - 3) / 2
  else
    redis.call('XCLAIM', jobs, group, worker, 0, entry, 'JUSTID')
  end
end
return lost

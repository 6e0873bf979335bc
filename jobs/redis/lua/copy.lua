-- Adds a copy of an answered job for another version to process for comparison, unless that version has enough to do,
-- or more jobs wait for the version that serves than it has workers.
local jobs, workers, served_jobs, served_workers, comparison = unpack(KEYS)
local worker_ttl_ms, group, max_copies, job, kept_s = unpack(ARGV)

local function alive(workers) return redis.call('ZCOUNT', workers, now_ms() - worker_ttl_ms, '+inf') end

local waiting = redis.call('XLEN', served_jobs) - redis.call('XPENDING', served_jobs, group)[1]
if waiting > alive(served_workers) or redis.call('XLEN', jobs) >= tonumber(max_copies) or alive(workers) == 0 then
  redis.call('HINCRBY', comparison, 'dropped', 1)
  redis.call('EXPIRE', comparison, kept_s)
  return 0
end
redis.call('XADD', jobs, '*', 'job', job, 'reply_to', '')
return 1

-- Takes what waits, up to the worker's share of it, so that none hoards while others idle.
local jobs, workers = unpack(KEYS)
local worker_ttl_ms, group, worker, max_jobs = unpack(ARGV)

local now = now_ms()
local alive = math.max(1, redis.call('ZCOUNT', workers, now - worker_ttl_ms, '+inf'))
local waiting = redis.call('XLEN', jobs) - redis.call('XPENDING', jobs, group)[1]
local share = math.min(tonumber(max_jobs), math.ceil(waiting / alive))
if share < 1 then return {now, {}} end
local taken = redis.call('XREADGROUP', 'GROUP', group, worker, 'COUNT', share, 'STREAMS', jobs, '>')
return {now, taken and taken[1][2] or {}}

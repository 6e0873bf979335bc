-- Takes one job that a dead worker held, or that was lost on its way to this one; forgets dead workers that hold none.
-- Being one script, it cannot take from a worker that another has just buried, nor bury one that still holds jobs.
local jobs, workers, service_times = unpack(KEYS)
local worker_ttl_ms, group, worker = unpack(ARGV)

local now = now_ms()
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', jobs, group)) do
  local name, held = consumer[2], consumer[4]
  local seen = redis.call('ZSCORE', workers, name)
  local dead = not seen or tonumber(seen) < now - worker_ttl_ms
  if held > 0 and (dead or name == worker) then
    local entry = redis.call('XPENDING', jobs, group, '-', '+', 1, name)[1]
    local claimed = redis.call('XCLAIM', jobs, group, worker, 0, entry[1])
    if claimed[1] then return {now, claimed[1], entry[4], name} end
    redis.call('XACK', jobs, group, entry[1])
  elseif dead and name ~= worker then
    redis.call('XGROUP', 'DELCONSUMER', jobs, group, name)
    redis.call('ZREM', workers, name)
    redis.call('HDEL', service_times, name)
  end
end
return {now, false, 0, ''}

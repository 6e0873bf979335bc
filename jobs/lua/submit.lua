-- A cached prediction answers at once. A job for an image in flight joins the one that computes it. Neither happens
-- without caching. What was accepted `before`, by a Redis that has forgotten it, is not refused now.
local jobs, workers, serving, in_flight, set_aside = unpack(KEYS)
local worker_ttl_ms, max_jobs, job, job_id, image_hash, reply_to, before, caching, prediction_prefix,
  in_flight_ttl_s = unpack(ARGV)

-- A Redis that has just started has heard of no worker yet, which does not mean that there is none.
local function just_started()
  local uptime_s = redis.call('INFO', 'server'):match('uptime_in_seconds:(%d+)')
  return uptime_s * 1000 <= tonumber(worker_ttl_ms)
end

if caching == '1' then
  local model = redis.call('GET', serving)
  local prediction = model and redis.call('GET', prediction_prefix .. model .. ':' .. image_hash)
  if prediction then return {'cached', prediction} end
  if redis.call('EXISTS', in_flight) == 1 then
    redis.call('RPUSH', in_flight, job, reply_to)
    redis.call('EXPIRE', in_flight, in_flight_ttl_s)
    return {'accepted'}
  end
end
if redis.call('HEXISTS', set_aside, image_hash) == 1 then return {'set-aside'} end
if before == '0' then
  local alive = redis.call('ZCOUNT', workers, now_ms() - worker_ttl_ms, '+inf')
  if alive == 0 and not just_started() then return {'no-worker'} end
  if redis.call('XLEN', jobs) >= tonumber(max_jobs) then return {'full'} end
end
redis.call('XADD', jobs, '*', 'job', job, 'reply_to', reply_to)
if caching == '1' then
  redis.call('RPUSH', in_flight, job_id)
  redis.call('EXPIRE', in_flight, in_flight_ttl_s)
end
return {'accepted'}

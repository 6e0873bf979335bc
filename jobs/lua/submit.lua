-- A cached prediction answers at once. A job for an image in flight joins the one that computes it. Neither happens
-- without caching, which is where image_hash is ''.
local jobs, workers, serving, in_flight = unpack(KEYS)
local worker_ttl_ms, max_jobs, job, job_id, reply_to, image_hash, prediction_prefix, in_flight_ttl_s = unpack(ARGV)

local caching = image_hash ~= ''
if caching then
  local model = redis.call('GET', serving)
  local prediction = model and redis.call('GET', prediction_prefix .. model .. ':' .. image_hash)
  if prediction then return {'cached', prediction} end
  if redis.call('EXISTS', in_flight) == 1 then
    redis.call('RPUSH', in_flight, job, reply_to)
    redis.call('EXPIRE', in_flight, in_flight_ttl_s)
    return {'accepted'}
  end
end
if redis.call('ZCOUNT', workers, now_ms() - worker_ttl_ms, '+inf') == 0 then return {'no-worker'} end
if redis.call('XLEN', jobs) >= tonumber(max_jobs) then return {'full'} end
redis.call('XADD', jobs, '*', 'job', job, 'reply_to', reply_to)
if caching then
  redis.call('RPUSH', in_flight, job_id)
  redis.call('EXPIRE', in_flight, in_flight_ttl_s)
end
return {'accepted'}

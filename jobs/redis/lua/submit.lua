-- A cached prediction answers at once. A job for an image in flight joins the one that processes it in the same lane,
-- or is refused if max_joined have joined. Neither happens without caching. Any other job is refused if it could not be
-- done within max_wait_s, or if its lane has max_share of the jobs or bytes that the other lane leaves; but not a job
-- that was accepted `before`, by a Redis that has forgotten it. For each job of its lane that waits, up to others_first
-- jobs of the other lane go before it.
local jobs, queued_bytes, in_flight, other_jobs, other_bytes, workers, serving, set_aside, images_per_s = unpack(KEYS)
local worker_ttl_ms, needs_worker, max_jobs, max_bytes, max_share, others_first, max_wait_s, job, job_id, size_bytes,
  image_hash, reply_to, before, caching, prediction_prefix, in_flight_ttl_s, max_joined = unpack(ARGV)

local backlog, others = redis.call('XLEN', jobs), redis.call('XLEN', other_jobs)
local speed = tonumber(redis.call('GET', images_per_s))
local wait_s = speed and (backlog + math.min(others, others_first * (backlog + 1))) / speed or 0
-- The room for further jobs of this lane, ignoring their bytes.
local room = math.min(max_jobs - others - backlog, speed and (max_wait_s - wait_s) * speed or math.huge)
local function answer(status, detail) return {status, detail or '', tostring(wait_s), tostring(room)} end

-- A Redis that has just started has no heartbeats yet, which does not mean that there are no workers.
local function just_started()
  local uptime_s = redis.call('INFO', 'server'):match('uptime_in_seconds:(%d+)')
  return uptime_s * 1000 <= tonumber(worker_ttl_ms)
end

-- An empty queue accepts an image of any size.
local function full()
  return backlog + others > 0 and (backlog >= max_share * (max_jobs - others)
    or bytes(queued_bytes) + size_bytes > max_share * (max_bytes - bytes(other_bytes))
    or wait_s > tonumber(max_wait_s))
end

if caching == '1' then
  local model = redis.call('GET', serving)
  local prediction = model and redis.call('GET', prediction_prefix .. model .. ':' .. image_hash)
  if prediction then return answer('cached', prediction) end
  local waiting = redis.call('LLEN', in_flight)
  if waiting > 0 then
    if waiting > 2 * max_joined then return answer('full') end
    redis.call('RPUSH', in_flight, job, reply_to)
    redis.call('EXPIRE', in_flight, in_flight_ttl_s)
    return answer('joined')
  end
end
if redis.call('HEXISTS', set_aside, image_hash) == 1 then return answer('set-aside') end
if before == '0' then
  local alive = redis.call('ZCOUNT', workers, now_ms() - worker_ttl_ms, '+inf')
  if alive == 0 and needs_worker == '1' and not just_started() then return answer('no-worker') end
  if full() then return answer('full') end
end
-- This comes first, since a Redis that is out of memory refuses the first write of a script and none after it.
local entry_id = redis.call('XADD', jobs, '*', 'job', job, 'reply_to', reply_to)
if backlog == 0 then redis.call('SET', queued_bytes, size_bytes) else add_bytes(queued_bytes, size_bytes) end
if caching == '1' then
  redis.call('RPUSH', in_flight, job_id)
  redis.call('EXPIRE', in_flight, in_flight_ttl_s)
end
return answer('accepted', entry_id)

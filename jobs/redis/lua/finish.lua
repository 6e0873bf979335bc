-- Only the first to acknowledge a job answers it and the jobs that joined it. If the job expired, which says nothing
-- about the image, the first that joined takes its place. The prediction is cached if a key is given.
local jobs, reply_to, in_flight, cached, queued_bytes = unpack(KEYS)
local group, entry_id, job_id, size_bytes, outcome, expired, reply_ttl_s, max_replies, in_flight_spare_s,
  prediction_key, cache_ttl_s, cache_entries = unpack(ARGV)

local function reply(stream, id)
  redis.call('XADD', stream, 'MAXLEN', '~', max_replies, '*', 'job_id', id, 'outcome', outcome)
  -- A result is kept for longer.
  if redis.call('TTL', stream) < tonumber(reply_ttl_s) then redis.call('EXPIRE', stream, reply_ttl_s) end
end

if redis.call('XACK', jobs, group, entry_id) == 0 then return 0 end
redis.call('XDEL', jobs, entry_id)
add_bytes(queued_bytes, -size_bytes)
reply(reply_to, job_id)

if prediction_key ~= '' then
  redis.call('SET', prediction_key, outcome, 'EX', cache_ttl_s)
  bound(cached, prediction_key, 1, cache_entries)
end

local joined = redis.call('LRANGE', in_flight, 0, -1)
if joined[1] ~= job_id then return 1 end
redis.call('DEL', in_flight)
local is_taken = false
for i = 2, #joined, 2 do
  local is_json, job = pcall(cjson.decode, joined[i])
  if not is_json or type(job) ~= 'table' or not job.id then
    -- Damaged, so there is no one to answer.
  elseif expired == '0' then
    reply(joined[i + 1], job.id)
  elseif not is_taken then
    is_taken = true
    redis.call('XADD', jobs, '*', 'job', joined[i], 'reply_to', joined[i + 1])
    add_bytes(queued_bytes, tonumber(job.size_bytes) or 0)
    redis.call('RPUSH', in_flight, job.id)
    redis.call('EXPIRE', in_flight, math.ceil(tonumber(job.timeout_s) or 0) + in_flight_spare_s)
  else
    redis.call('RPUSH', in_flight, joined[i], joined[i + 1])
  end
end
return 1

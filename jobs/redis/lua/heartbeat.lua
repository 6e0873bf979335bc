-- Records that a worker is alive, its speed, its model and its pool, and the total speed of the pool's live workers.
local workers, service_times, serving, images_per_s, alive, versions = unpack(KEYS)
local worker_ttl_ms, worker, service_time_s, model, pool, model_ttl_s = unpack(ARGV)

local now = now_ms()
redis.call('ZADD', workers, now, worker)
redis.call('ZADD', alive, now, worker)
redis.call('HSET', service_times, worker, service_time_s)
redis.call('SET', serving, model, 'EX', model_ttl_s)
if pool ~= '' then redis.call('ZADD', versions, 'NX', now, pool) end
local speed = 0
for _, name in ipairs(redis.call('ZRANGEBYSCORE', workers, now - worker_ttl_ms, '+inf')) do
  speed = speed + 1 / (tonumber(redis.call('HGET', service_times, name)) or math.huge)
end
redis.call('SET', images_per_s, tostring(speed))

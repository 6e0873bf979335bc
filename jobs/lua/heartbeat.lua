-- A worker is alive, this fast, and serves this model. Those that live are, together, this fast.
local workers, service_times, serving, images_per_s = unpack(KEYS)
local worker_ttl_ms, worker, service_time_s, model = unpack(ARGV)

local now = now_ms()
redis.call('ZADD', workers, now, worker)
redis.call('HSET', service_times, worker, service_time_s)
redis.call('SET', serving, model)
local speed = 0
for _, name in ipairs(redis.call('ZRANGEBYSCORE', workers, now - worker_ttl_ms, '+inf')) do
  speed = speed + 1 / (tonumber(redis.call('HGET', service_times, name)) or math.huge)
end
redis.call('SET', images_per_s, tostring(speed))

-- A worker is alive, this fast, and serves this model.
local workers, service_times, serving = unpack(KEYS)
local worker, service_time_s, model = unpack(ARGV)

redis.call('ZADD', workers, now_ms(), worker)
redis.call('HSET', service_times, worker, service_time_s)
redis.call('SET', serving, model)

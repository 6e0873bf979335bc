-- Put before the other scripts: records a new key and its size, and deletes the oldest keys of its kind beyond a total
-- of `most`. A key's score is the running total up to it, so nothing is counted that expires.
local function bound(index, key, takes, most)
  local taken = (redis.call('ZREVRANGE', index, 0, 0, 'WITHSCORES')[2] or 0) + takes
  redis.call('ZADD', index, taken, key)
  for _, oldest in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', taken - most)) do
    redis.call('DEL', oldest)
    redis.call('ZREM', index, oldest)
  end
end

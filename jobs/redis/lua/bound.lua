-- Put before the other scripts: notes that a key is new and how much it takes, and deletes those of its kind that came
-- before the latest `most` of all that. A key's score is what all have taken up to it, so nothing is counted that expires.
local function bound(index, key, takes, most)
  local taken = (redis.call('ZREVRANGE', index, 0, 0, 'WITHSCORES')[2] or 0) + takes
  redis.call('ZADD', index, taken, key)
  for _, oldest in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', taken - most)) do
    redis.call('DEL', oldest)
    redis.call('ZREM', index, oldest)
  end
end

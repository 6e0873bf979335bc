-- Put before the other scripts: notes that a key is new, and deletes the oldest of its kind beyond max_entries.
local function bound(index, key, max_entries)
  redis.call('ZADD', index, now_ms(), key)
  for _, oldest in ipairs(redis.call('ZRANGE', index, 0, -1 - max_entries)) do
    redis.call('DEL', oldest)
    redis.call('ZREM', index, oldest)
  end
end

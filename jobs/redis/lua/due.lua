-- Returns a due reminder, and postpones it, so that no other process gets it meanwhile.
local reminders = KEYS[1]
local again_ms = ARGV[1]

local now = now_ms()
local due = redis.call('ZRANGEBYSCORE', reminders, '-inf', now, 'LIMIT', 0, 1)[1]
if due then redis.call('ZADD', reminders, now + again_ms, due) end
return due or false

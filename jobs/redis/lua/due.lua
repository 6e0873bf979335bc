-- Returns a reminder whose time has come, and puts it off, so that nobody else has it meanwhile.
local reminders = KEYS[1]
local again_ms = ARGV[1]

local now = now_ms()
local due = redis.call('ZRANGEBYSCORE', reminders, '-inf', now, 'LIMIT', 0, 1)[1]
if due then redis.call('ZADD', reminders, now + again_ms, due) end
return due or false

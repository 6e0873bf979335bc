-- Keeps a text under a key, unless there is one already: then it returns that.
local key, index = unpack(KEYS)
local ttl_s, takes_bytes, max_bytes, text = unpack(ARGV)

local found = redis.call('GET', key)
if found then return found end
redis.call('SET', key, text, 'EX', ttl_s)
bound(index, key, takes_bytes, max_bytes)
return false

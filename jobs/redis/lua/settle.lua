-- Keeps a text in place of the one before.
local key, index = unpack(KEYS)
local ttl_s, takes_bytes, max_bytes, text = unpack(ARGV)

redis.call('SET', key, text, 'EX', ttl_s)
bound(index, key, takes_bytes, max_bytes)

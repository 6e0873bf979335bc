-- Keeps a text under a key, replacing any other.
local key, index = unpack(KEYS)
local ttl_s, takes_bytes, max_bytes, text = unpack(ARGV)

redis.call('SET', key, text, 'EX', ttl_s)
bound(index, key, takes_bytes, max_bytes)

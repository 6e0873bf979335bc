-- Keeps a result: the request, and the outcomes so far, each after its job's id.
local result, index = unpack(KEYS)
local ttl_s, takes_bytes, max_bytes, request, job_ids = unpack(ARGV)

redis.call('XADD', result, '*', 'request', request, 'job_ids', job_ids)
for i = 6, #ARGV, 2 do redis.call('XADD', result, '*', 'job_id', ARGV[i], 'outcome', ARGV[i + 1]) end
redis.call('EXPIRE', result, ttl_s)
bound(index, result, takes_bytes, max_bytes)

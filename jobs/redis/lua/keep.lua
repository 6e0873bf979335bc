-- Keeps a result: what was asked, and the outcomes that there are, each after the id of its job.
local result, index = unpack(KEYS)
local ttl_s, takes_bytes, max_bytes, request, job_ids = unpack(ARGV)

redis.call('XADD', result, '*', 'request', request, 'job_ids', job_ids)
for i = 6, #ARGV, 2 do redis.call('XADD', result, '*', 'job_id', ARGV[i], 'outcome', ARGV[i + 1]) end
redis.call('EXPIRE', result, ttl_s)
bound(index, result, takes_bytes, max_bytes)

-- Removes a job that nobody waits for any more, unless a worker has it or another job waits for the same image.
local jobs, in_flight, queued_bytes = unpack(KEYS)
local group, entry_id, job_id, size_bytes = unpack(ARGV)

local joined = redis.call('LRANGE', in_flight, 0, 1)
local computes = joined[1] == job_id
if computes and joined[2] then return 0 end
-- Before the first worker comes there is no group, and so no job is held.
local held = redis.pcall('XPENDING', jobs, group, entry_id, entry_id, 1)
if held[1] or redis.call('XDEL', jobs, entry_id) == 0 then return 0 end
add_bytes(queued_bytes, -size_bytes)
if computes then redis.call('DEL', in_flight) end
return 1

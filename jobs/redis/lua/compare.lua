-- Removes a copy, and adds to its comparison; the arguments are names and amounts in turn.
local jobs, comparison = unpack(KEYS)
local group, entry_id, kept_s = unpack(ARGV)

if redis.call('XACK', jobs, group, entry_id) == 0 then return 0 end
redis.call('XDEL', jobs, entry_id)
for i = 4, #ARGV, 2 do redis.call('HINCRBYFLOAT', comparison, ARGV[i], ARGV[i + 1]) end
redis.call('EXPIRE', comparison, kept_s)
return 1

-- Put before the other scripts: reads and increases the number of bytes under a key. A damaged number restarts from
-- zero, so that it prevents no job from being taken, and no answer from being sent.
local function bytes(key)
  local number = redis.pcall('GET', key)
  return type(number) == 'string' and tonumber(number) or 0
end

local function add_bytes(key, number)
  local sum = redis.pcall('INCRBY', key, number)
  if type(sum) == 'table' or sum < 0 then redis.call('SET', key, math.max(0, number)) end
end

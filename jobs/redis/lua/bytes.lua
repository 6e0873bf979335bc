-- Put before the other scripts: the number of bytes under a key, and what adds to it. One that is damaged begins anew, so
-- that it keeps no job from being taken, and no answer from being sent.
local function bytes(key)
  local number = redis.pcall('GET', key)
  return type(number) == 'string' and tonumber(number) or 0
end

local function add_bytes(key, number)
  local sum = redis.pcall('INCRBY', key, number)
  if type(sum) == 'table' or sum < 0 then redis.call('SET', key, math.max(0, number)) end
end

-- Takes the worker's share of the waiting jobs, so that none hoards while others idle: interactive jobs, or bulk jobs
-- if there are none; and one bulk job beside the others, after bulk_every - 1 have passed it.
local interactive, bulk, passed_bulk, workers = unpack(KEYS)
local worker_ttl_ms, group, worker, max_jobs, max_bulk, bulk_every, lately_ms = unpack(ARGV)

local now = now_ms()
local alive = math.max(1, redis.call('ZCOUNT', workers, now - worker_ttl_ms, '+inf'))

local function share(jobs, most)
  local length = redis.call('XLEN', jobs)
  if length == 0 then return 0 end
  local waiting = length - redis.call('XPENDING', jobs, group)[1]
  return math.min(most, math.ceil(waiting / alive))
end

local function take(jobs, count)
  if count < 1 then return {} end
  local taken = redis.call('XREADGROUP', 'GROUP', group, worker, 'COUNT', count, 'STREAMS', jobs, '>')
  return taken and taken[1][2] or {}
end

-- A stream's latest id begins with its entry's time, and outlives the entry.
local function came_lately(jobs)
  local about = redis.call('XINFO', 'STREAM', jobs)
  for i = 1, #about, 2 do
    if about[i] == 'last-generated-id' then return tonumber(about[i + 1]:match('%d+')) > now - lately_ms end
  end
end

local first = share(interactive, tonumber(max_jobs))
local rest = share(bulk, math.min(max_bulk, max_jobs))
if rest > 0 then
  local passed = first + (redis.call('GET', passed_bulk) or 0)
  if first > 0 and passed < bulk_every - 1 then
    redis.call('SET', passed_bulk, passed)
    rest = 0
  else
    redis.call('DEL', passed_bulk)
    if first > 0 or came_lately(interactive) then rest = 1 end
    first = math.min(first, max_jobs - rest)
  end
end
return {now, take(interactive, first), take(bulk, rest)}

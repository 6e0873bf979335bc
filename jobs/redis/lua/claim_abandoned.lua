-- Takes one job of a dead worker, or one that was lost on its way to this worker; removes dead workers without jobs.
-- Being one script, it cannot take from a worker that another has just removed, nor remove one that still holds jobs. A
-- version without workers has its jobs taken by another version's workers, which are alive, but not in its pool.
local interactive, bulk, workers, service_times, alive, redeliveries = unpack(KEYS)
local worker_ttl_ms, group, worker = unpack(ARGV)

local now = now_ms()
local function seen_at(name)
  return math.max(redis.call('ZSCORE', workers, name) or 0, redis.call('ZSCORE', alive, name) or 0)
end
local function is_dead(name) return seen_at(name) < now - worker_ttl_ms end

-- A worker without a recent heartbeat (Redis, the network or the whole machine stood still) cannot tell which are dead.
if is_dead(worker) then return {now, '', false, 0, ''} end

local function claim(jobs, name)
  -- Redis may have lost its memory, and a worker's first heartbeat since may come after its first job.
  local least_idle_ms = seen_at(name) == 0 and worker_ttl_ms or 0
  local entry = redis.call('XPENDING', jobs, group, 'IDLE', least_idle_ms, '-', '+', 1, name)[1]
  if not entry then return end
  -- A job lost on its way has ended no worker: it is delivered as if for the first time.
  local deaths = name == worker and entry[4] - 1 or entry[4]
  local claimed = redis.call('XCLAIM', jobs, group, worker, 0, entry[1], 'RETRYCOUNT', deaths + 1)
  -- Counted here, since the worker that takes the job may die of it before its report is read.
  if claimed[1] and name ~= worker then redis.call('INCR', redeliveries) end
  if claimed[1] then return {now, jobs, claimed[1], deaths, name} end
  redis.call('XACK', jobs, group, entry[1])
end

local holders, idle = {}, {}
for _, jobs in ipairs({interactive, bulk}) do
  for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', jobs, group)) do
    local name, held = consumer[2], consumer[4]
    if held > 0 and (name == worker or is_dead(name)) then
      local claimed = claim(jobs, name)
      if claimed then return claimed end
      holders[name] = true
    elseif is_dead(name) then
      table.insert(idle, {jobs, name})
    end
  end
end
for _, consumer in ipairs(idle) do
  local jobs, name = unpack(consumer)
  redis.call('XGROUP', 'DELCONSUMER', jobs, group, name)
  if not holders[name] then
    redis.call('ZREM', workers, name)
    redis.call('ZREM', alive, name)
    redis.call('HDEL', service_times, name)
  end
end
return {now, '', false, 0, ''}

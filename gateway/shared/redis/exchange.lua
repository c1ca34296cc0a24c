-- One exchange of a member: its presence, its reports on rates, its counts for quotas, its reports on seats; one
-- round trip. Rates are settled as core/shared/rates.py settles them. The clock is the server's. seats.lua stands
-- before this.
--
-- KEYS: members, meta, then a key for each rate, for each quota, for each pool of seats; all in one slot.
-- ARGV: member, the epoch that it knows, silent_after, lease_time (seconds), the number of rates and of quotas,
--       the start of its process, which of its processes holds seats, the number of this exchange, the number of
--       exchanges in this epoch that it knows of;
--       for each rate per_second, burst, credit, back, want, owed;
--       for each quota the day, its requests not told yet, those that were known, those that wait, the quota;
--       for each pool its report, as JSON.
-- Gives the epoch, the number of members and of exchanges, then for each rate tokens, owed, wait, then for each
-- quota its total and what is granted of it, then for each pool its grant, as JSON.
local SLICE, SHORT, DEBTORS, ROUNDING, SETTLE, SETTLE_SEATS = 0.1, 0.005, 16, 1e-9, 1.0, 1.5
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local function text(number) return string.format('%.7f', number) end
local function argument(at) return tonumber(ARGV[at]) end

local silent_after, lease_time, rates, quotas = argument(3), argument(4), argument(5), argument(6)
redis.call('ZADD', KEYS[1], text(now), ARGV[1])
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', text(now - lease_time))) do
  redis.call('ZREM', KEYS[1], gone)
  redis.call('HDEL', KEYS[2], 'of:' .. gone)
end
redis.call('HSET', KEYS[2], 'of:' .. ARGV[1], ARGV[7])
redis.call('EXPIRE', KEYS[1], math.ceil(2 * lease_time))
local members = redis.call('ZCARD', KEYS[1])
-- What was leased to those that are silent stays theirs: they may go on with it where we cannot see them.
local silent = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. text(now - silent_after))
local scale = (members - silent) / members

local epoch = redis.call('HGET', KEYS[2], 'epoch')
local count = redis.call('HINCRBY', KEYS[2], 'count', 1)
-- Where it has forgotten exchanges that a member knows of, a replica that was behind has taken its place.
if not epoch or (ARGV[2] == epoch and argument(10) >= count) then
  epoch = text(now)
  redis.call('HSET', KEYS[2], 'epoch', epoch)
end
if ARGV[2] ~= '' and ARGV[2] ~= epoch and redis.call('HEXISTS', KEYS[2], 'lost') == 0 and now - tonumber(epoch) < 60 then
  redis.call('HSET', KEYS[2], 'lost', text(now))
end
local lost = tonumber(redis.call('HGET', KEYS[2], 'lost') or '0')
-- After a loss, members tell what they know; until then nobody has a burst of what is not known.
local settling = now - lost < SETTLE

local reply = {epoch, members, count}
for i = 1, rates do
  local key, at = KEYS[2 + i], 5 + 6 * i
  local rate, burst = argument(at) * scale, argument(at + 1) * scale
  local credit, back, want, owed = argument(at + 2), argument(at + 3), argument(at + 4), argument(at + 5)
  local ahead = math.max(1, rate * SLICE)
  local room = math.max(burst, 1, rate * SHORT)
  local arrival = tonumber(redis.call('GET', key) or (settling and now + room / rate or 0))
  arrival = math.max(arrival, now, now + owed)
  arrival = math.min(arrival, now + (room + DEBTORS * ahead) / rate)
  arrival = math.max(now, arrival + (credit - back) / rate)
  local free = room - (arrival - now) * rate
  local tokens = math.max(0, math.min(want, math.floor(free + ROUNDING * 1e3)))
  arrival = arrival + tokens / rate
  local wait = (1 - (free - tokens)) / rate
  if arrival > now then
    redis.call('SET', key, text(arrival), 'PX', math.ceil((arrival - now) * 1000) + 1000)
  else
    redis.call('DEL', key)
  end
  table.insert(reply, tokens)
  table.insert(reply, text(arrival - now))
  table.insert(reply, text(math.max(0, wait)))
end

local today, at = math.floor(now / 86400), 11 + 6 * rates
for i = 3 + rates, 2 + rates + quotas do
  local day, new, known, want, quota =
    argument(at), argument(at + 1), argument(at + 2), argument(at + 3), argument(at + 4)
  local stored = redis.call('HMGET', KEYS[i], 'day', 'requests')
  local total = 0
  if tonumber(stored[1] or '-1') == today then
    total = tonumber(stored[2])
  end
  if day == today then  -- what was known before a loss counts
    total = math.max(total, known)
  end
  total = total + new
  local granted = math.max(0, math.min(want, quota - total))
  total = total + granted
  redis.call('HSET', KEYS[i], 'day', today, 'requests', string.format('%.0f', total))
  redis.call('EXPIRE', KEYS[i], 2 * 86400)
  table.insert(reply, string.format('%.0f', total))
  table.insert(reply, string.format('%.0f', granted))
  at = at + 5
end

local incarnations = {}
local function incarnation_of(node)
  if incarnations[node] == nil then
    incarnations[node] = redis.call('ZSCORE', KEYS[1], node) and redis.call('HGET', KEYS[2], 'of:' .. node)
  end
  return incarnations[node]
end

-- After a loss nobody gets a seat before all have told what they hold.
local settles = now - tonumber(epoch) < SETTLE_SEATS
local name = ARGV[1] .. '|' .. ARGV[7] .. '|' .. ARGV[8]
for i = 3 + rates + quotas, #KEYS do
  local report = cjson.decode(ARGV[at])
  local grant = settle_seats(KEYS[i], name, argument(9), report, now, settles, lease_time, incarnation_of)
  table.insert(reply, grant)
  at = at + 1
end
return reply

-- One exchange of a member: its presence, its reports on rates, its counts for quotas; one round trip.
-- Rates are settled as core/shared/rates.py settles them. The clock is the server's.
--
-- KEYS: members, meta, then a key for each rate, then one for each quota; all in one slot.
-- ARGV: member, the epoch that it knows, silent_after, lease_time (seconds), the number of rates;
--       for each rate per_second, burst, credit, back, want, owed;
--       for each quota the day, its requests not told yet, those that were known.
-- Gives the epoch, the number of members, then for each rate tokens, owed, wait, then for each quota its total.
local SLICE, DEBTORS, ROUNDING, SETTLE = 0.1, 16, 1e-9, 1.0
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1e6
local function text(number) return string.format('%.7f', number) end
local function argument(at) return tonumber(ARGV[at]) end

local silent_after, lease_time, rates = argument(3), argument(4), argument(5)
redis.call('ZADD', KEYS[1], text(now), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now - lease_time))
redis.call('EXPIRE', KEYS[1], math.ceil(2 * lease_time))
local members = redis.call('ZCARD', KEYS[1])
-- What was leased to those that are silent stays theirs: they may go on with it where we cannot see them.
local silent = redis.call('ZCOUNT', KEYS[1], '-inf', '(' .. text(now - silent_after))
local scale = (members - silent) / members

local epoch = redis.call('HGET', KEYS[2], 'epoch')
if not epoch then
  epoch = text(now)
  redis.call('HSET', KEYS[2], 'epoch', epoch)
end
if ARGV[2] ~= '' and ARGV[2] ~= epoch and redis.call('HEXISTS', KEYS[2], 'lost') == 0 and now - tonumber(epoch) < 60 then
  redis.call('HSET', KEYS[2], 'lost', text(now))
end
local lost = tonumber(redis.call('HGET', KEYS[2], 'lost') or '0')
-- After a loss, members tell what they know; until then nobody has a burst of what is not known.
local settling = now - lost < SETTLE

local reply = {epoch, members}
for i = 1, rates do
  local key, at = KEYS[2 + i], 6 * i
  local rate, burst = argument(at) * scale, argument(at + 1) * scale
  local credit, back, want, owed = argument(at + 2), argument(at + 3), argument(at + 4), argument(at + 5)
  local ahead = math.max(1, rate * SLICE)
  local room = math.max(burst, ahead)
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

local today, at = math.floor(now / 86400), 6 + 6 * rates
for i = 3 + rates, #KEYS do
  local day, new, known = argument(at), argument(at + 1), argument(at + 2)
  local stored = redis.call('HMGET', KEYS[i], 'day', 'requests')
  local total = 0
  if tonumber(stored[1] or '-1') == today then
    total = tonumber(stored[2])
  end
  if day == today then  -- what was known before a loss counts
    total = math.max(total, known)
  end
  total = total + new
  redis.call('HSET', KEYS[i], 'day', today, 'requests', string.format('%.0f', total))
  redis.call('EXPIRE', KEYS[i], 2 * 86400)
  table.insert(reply, string.format('%.0f', total))
  at = at + 3
end
return reply

-- The book of seats, as core/shared/seats.py keeps it: who holds how many of a pool, and who gets how many.
-- Its comments say why. A pool is a hash: each holder by its name (node|start of its process|worker), as JSON,
-- and under '' when it was settled last.
local EPSILON, TURN, MOST_OWED = 1e-9, 0.02, 0.1

local function sum(counts)
  local total = 0
  for _, count in pairs(counts) do total = total + count end
  return total
end

local function sorted_keys(map)
  local keys = {}
  for key in pairs(map) do table.insert(keys, key) end
  table.sort(keys)
  return keys
end

local function clamp(low, number, high) return math.max(low, math.min(high, number)) end

-- Weighted max-min fair shares. wanted: by name, {weight, how many at most}.
local function fair_shares(wanted, seats)
  local names, shares, weights = sorted_keys(wanted), {}, 0
  for _, name in ipairs(names) do weights = weights + wanted[name][1] end
  table.sort(names, function(a, b)
    local one, other = wanted[a][2] / wanted[a][1], wanted[b][2] / wanted[b][1]
    if one == other then return a < b end
    return one < other
  end)
  for _, name in ipairs(names) do
    local weight, most = wanted[name][1], wanted[name][2]
    local share = weights > EPSILON and math.min(most, seats * weight / weights) or 0
    shares[name] = share
    seats = seats - share
    weights = weights - weight
  end
  return shares
end

-- Those of a pool that are still there. One that has left, or whose process has been started again, has what may be
-- inside until that is over; one that is silent for too long, or whose node has left, has nothing.
local function holders_of(key, now, lease_time, incarnation_of)
  local holders, stored, at = {}, redis.call('HGETALL', key), now
  for i = 1, #stored, 2 do
    local name, value = stored[i], cjson.decode(stored[i + 1])
    if name == '' then
      at = value
    else
      local node, incarnation = string.match(name, '^([^|]*)|([^|]*)')
      local current = incarnation_of(node)
      if not value.dies and current and current ~= incarnation then
        value.dies, value.demand = now + value.lasts, {}
      end
      local until_then = value.dies or (current and value.told + lease_time) or now
      if until_then > now then
        holders[name] = value
      else
        redis.call('HDEL', key, name)
      end
    end
  end
  return holders, at
end

local function exact_parts(living, seats, reserve)
  local wanted, count, weights, total = {}, 0, 0, 0
  for _, holder in pairs(living) do
    for _, one in ipairs(holder.demand) do
      local before = wanted[one[1]] or {0, 0}
      wanted[one[1]] = {math.max(one[2], before[1]), before[2] + one[3]}
      total = total + one[3]
    end
  end
  for _, one in pairs(wanted) do
    count, weights = count + 1, weights + one[1]
  end
  local heavy, of_heavy = {}, {}
  if count >= 2 and reserve > 0 then
    for tenant, one in pairs(wanted) do
      if one[2] > math.max(1, seats / weights * one[1]) then
        heavy[tenant], of_heavy[tenant] = true, one
      end
    end
  end
  local shares, most, had = fair_shares(wanted, seats), math.max(1, seats - reserve), 0
  for tenant in pairs(heavy) do had = had + shares[tenant] end
  if had > most then
    for tenant, share in pairs(fair_shares(of_heavy, most)) do shares[tenant] = share end
  end
  for _, holder in pairs(living) do
    holder.exact, holder.light = 0, 0
  end
  for _, tenant in ipairs(sorted_keys(shares)) do
    local demands = {}
    for name, holder in pairs(living) do
      for _, one in ipairs(holder.demand) do
        if one[1] == tenant then demands[name] = {1, one[3]} end
      end
    end
    for name, part in pairs(fair_shares(demands, shares[tenant])) do
      living[name].exact = living[name].exact + part
      if not heavy[tenant] then living[name].light = living[name].light + part end
    end
  end
  return heavy, total
end

local function whole_parts(living, names, elapsed)
  local rest, candidates = 0, {}
  for _, name in ipairs(names) do rest = rest + living[name].exact end
  rest = math.floor(rest + 0.5)
  for _, name in ipairs(names) do
    local holder = living[name]
    local had_turn = holder.whole > holder.exact and 1 or 0
    holder.owed = clamp(-MOST_OWED, holder.owed + (holder.exact - holder.whole) * elapsed, MOST_OWED)
    holder.whole = math.floor(holder.exact + EPSILON)
    rest = rest - holder.whole
    local fraction = holder.exact - holder.whole
    if fraction > EPSILON then
      table.insert(candidates, {-holder.owed - TURN * had_turn, -fraction, name})
    else
      holder.owed = 0
    end
  end
  table.sort(candidates, function(a, b)
    for i = 1, 3 do
      if a[i] ~= b[i] then return a[i] < b[i] end
    end
    return false
  end)
  for i = 1, math.min(#candidates, rest) do
    local holder = living[candidates[i][3]]
    holder.whole = holder.whole + 1
  end
end

-- What nobody wants, as a float for each; not for heavy tenants that are alone on their holder.
local function spread(living, names, free, heavy)
  local may, is_heavy = {}, {}
  for _, name in ipairs(names) do
    local light = #living[name].demand == 0
    for _, one in ipairs(living[name].demand) do
      if heavy[one[1]] then is_heavy[name] = true else light = true end
    end
    if light then table.insert(may, name) end
  end
  table.sort(may, function(a, b)
    local one, other = living[a].wanted_at, living[b].wanted_at
    if one == other then return a < b end
    return one > other
  end)
  local each, floats = math.min(1, free), {}
  if free > #names then each = math.floor(free / (#names + 1)) end
  for i = 1, math.min(#may, math.max(0, free)) do floats[may[i]] = true end
  for _, name in ipairs(names) do
    local holder, more = living[name], floats[name] and each or 0
    holder.part = holder.whole + more
    holder.need = next(heavy) and holder.part or holder.whole
    holder.reserve = is_heavy[name] and more + math.floor(holder.light + EPSILON) or 0
  end
end

local function share_out(holders, report, elapsed)
  local living, seats = {}, sum(report.seats)
  for name, holder in pairs(holders) do
    if not holder.dies then living[name] = holder end
    for address, count in pairs(holder.lease) do
      local listed = (report.seats[address] or 0) > 0
      if holder.dies and listed then seats = seats - count end
      if not holder.dies and not listed then seats = seats + count end
    end
  end
  seats = math.max(0, seats)
  local heavy, wanted = exact_parts(living, seats, report.reserve)
  local names, had = sorted_keys(living), 0
  whole_parts(living, names, elapsed)
  for _, name in ipairs(names) do had = had + living[name].whole end
  spread(living, names, seats - had, heavy)
  return living, #names, wanted > sum(report.seats)
end

-- Lease what is free, up to the part, first where most is free. What is leased is never more than the seats.
local function take_free(holder, holders, seats)
  local free, addresses = {}, sorted_keys(seats)
  for _, address in ipairs(addresses) do
    free[address] = seats[address]
    for _, other in pairs(holders) do free[address] = free[address] - (other.lease[address] or 0) end
  end
  for _ = 1, holder.part - sum(holder.lease) do
    local best
    for _, address in ipairs(addresses) do
      if free[address] > 0 and (not best or free[address] > free[best]) then best = address end
    end
    if not best then return end
    free[best] = free[best] - 1
    holder.lease[best] = (holder.lease[best] or 0) + 1
  end
end

-- One report on one pool; gives the grant as JSON. settles: those that hold something have not all told it yet,
-- so nothing is leased. number: of the report; one that comes late changes nothing.
local function settle_seats(key, name, number, report, now, settles, lease_time, incarnation_of)
  local holders, at = holders_of(key, now, lease_time, incarnation_of)
  local holder = holders[name]
  if holder and number < holder.number then return '{}' end
  holder = holder or {owed = 0, whole = 0, part = 0, need = 0, reserve = 0, exact = 0, wanted_at = -1}
  holders[name], holder.number, holder.told, holder.lasts = holder, number, now, report.lasts
  holder.lease, holder.demand, holder.dies = {}, report.demand, nil
  for address, count in pairs(report.held) do
    if count > 0 then holder.lease[address] = count end
  end
  for _, one in ipairs(report.demand) do
    if one[3] > 0 then holder.wanted_at = now end
  end
  local grant = {lease = {}, part = 0, reserve = 0, scarce = false, even = 1}
  if not next(report.seats) then
    holder.dies = now + report.lasts
    if not next(holder.lease) then
      holders[name] = nil
      redis.call('HDEL', key, name)
    end
  else
    local living, many, scarce = share_out(holders, report, math.max(0, now - at))
    if not settles then take_free(holder, holders, report.seats) end
    for _, other in pairs(living) do scarce = scarce or sum(other.lease) < other.need end
    scarce = scarce and not settles
    local even = math.max(1, math.floor(sum(report.seats) / many))
    grant = {lease = holder.lease, part = holder.part, reserve = holder.reserve, scarce = scarce, even = even}
  end
  local values = {'', cjson.encode(now)}
  for other, value in pairs(holders) do
    table.insert(values, other)
    table.insert(values, cjson.encode(value))
  end
  redis.call('HSET', key, unpack(values))
  redis.call('EXPIRE', key, math.ceil(2 * lease_time))
  return cjson.encode(grant)
end


-- One line of JSON in place of wrk's text; latencies in microseconds. Script arguments: the method, and the
-- size of the request's body in bytes; or the method, a file of paths to go through, and a file to send.
local prepared, at = {}, 0

function init(args)
  wrk.method = args[1] or "GET"
  local size = tonumber(args[2] or 0)
  if size == nil then
    prepare(args[2], args[3])
  elseif size > 0 then
    wrk.body = string.rep("x", size)
  end
end

function prepare(paths, body)
  if body then
    local file = assert(io.open(body))
    wrk.body = file:read("*a")
    file:close()
  end
  for path in io.lines(paths) do table.insert(prepared, wrk.format(nil, path)) end
  request = function()
    at = at % #prepared + 1
    return prepared[at]
  end
end

function done(summary, latency, requests)
  local e = summary.errors
  local some = summary.requests > 0
  io.write(string.format(
    '{"us":%d,"requests":%d,"bytes":%d,"errors":%d,"p50":%f,"p99":%f}\n',
    summary.duration, summary.requests, summary.bytes, e.connect + e.read + e.write + e.status + e.timeout,
    some and latency:percentile(50) or 0, some and latency:percentile(99) or 0))
end

-- One line of JSON in place of wrk's text; latencies in microseconds. Script arguments: the method, and the
-- size of the request's body in bytes.
function init(args)
  wrk.method = args[1] or "GET"
  local size = tonumber(args[2] or 0)
  if size > 0 then wrk.body = string.rep("x", size) end
end

function done(summary, latency, requests)
  local e = summary.errors
  local some = summary.requests > 0
  io.write(string.format(
    '{"us":%d,"requests":%d,"bytes":%d,"errors":%d,"p50":%f,"p99":%f}\n',
    summary.duration, summary.requests, summary.bytes, e.connect + e.read + e.write + e.status + e.timeout,
    some and latency:percentile(50) or 0, some and latency:percentile(99) or 0))
end

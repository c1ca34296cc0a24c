-- One line of JSON in place of wrk's text; latencies in microseconds.
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"us":%d,"requests":%d,"errors":%d,"p50":%f,"p99":%f}\n',
    summary.duration, summary.requests, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end

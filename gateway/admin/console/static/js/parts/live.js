// What several pages do with the live stream.

import { h } from "../dom.js";
import { amount, milliseconds } from "../format.js";
import { rate, traffic } from "../traffic.js";
import { chart } from "./chart.js";

/** Load again whenever another revision becomes live, until the signal aborts. */
export function reloaded(load, signal) {
  let known = traffic.last?.config.revision;
  traffic.each(({ config }) => {
    if (known !== config.revision) load(); // the first message too: what was loaded before may be older
    known = config.revision;
  }, signal);
}

/** Requests a second of a route or tenant in the last ten seconds. kind: routes | tenants. */
export function latest(kind, name) {
  const recent = traffic.samples.slice(-10);
  return recent.length
    ? recent.reduce((sum, one) => sum + rate(one, one[kind]?.[name]), 0) / recent.length
    : 0;
}

/** Two charts of a route or tenant. */
export function charts(kind, name, signal) {
  const of = one => one[kind]?.[name];
  const drawings = [
    chart(`Requests of ${name}`, [
      { name: "requests/s", kind: "area", pick: one => rate(one, of(one)), format: amount },
      {
        name: "errors/s",
        kind: "line",
        pick: one => (of(one)?.errors ?? 0) / (one.seconds || 1),
        format: amount,
      },
    ]),
    chart(`Latency of ${name}`, [
      { name: "p99", kind: "line", pick: one => of(one)?.p99 ?? null, format: milliseconds },
      { name: "p50", kind: "area", pick: one => of(one)?.p50 ?? null, format: milliseconds },
    ]),
  ];
  traffic.each(() => drawings.forEach(drawing => drawing.draw(traffic.samples)), signal);
  return ["Requests/s and errors", "Latency, p50 and p99"].map((title, index) =>
    h("article", { class: "panel tile" }, h("header", {}, h("h3", {}, title)), drawings[index].element),
  );
}

// A chart of the last five minutes: lines and areas in SVG, coloured by the style sheet. Pointing at it shows the values
// of that second.

import { fill, h, svg } from "../dom.js";
import { time } from "../format.js";
import { WINDOW } from "../traffic.js";

const MINUTE = 60; // seconds
const GAP = 5; // seconds without a message
const WIDTH = 300; // units of the drawing: one for a second; the height is 100

/** series: [{name, kind: "area" | "line", pick: message => number | null, format}]. Gives {element, draw(samples)}. */
export function chart(label, series) {
  const paths = series.map(({ kind, name }) =>
    svg("path", { class: `series ${kind} ${name.replace(/\W+/g, "-").toLowerCase()}` }),
  );
  const drawing = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} 100`, preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("path", { class: "grid", d: `M0 50H${WIDTH}M0 99.5H${WIDTH}` }),
    paths,
  );
  const top = h("span", { class: "chart-top" });
  const cursor = h("div", { class: "chart-cursor", hidden: true });
  const element = h(
    "div",
    { class: "chart", role: "img", "aria-label": label, on: { pointermove: point, pointerleave: leave } },
    drawing,
    top,
    h("span", { class: "chart-span" }, "5 min"),
    cursor,
  );
  let shown = [];

  function draw(samples) {
    shown = samples;
    if (!samples.length) return;
    const end = samples.at(-1).at;
    const highest = Math.max(1e-9, ...series.flatMap(({ pick }) => samples.map(one => pick(one) ?? 0)));
    const scale = ceiling(highest);
    series.forEach(({ kind, pick }, index) => {
      const points = samples.map(one => [WIDTH - ((end - one.at) * WIDTH) / WINDOW, pick(one)]);
      paths[index].setAttribute("d", path(points, scale, kind === "area", GAP));
    });
    top.textContent = highest > 1e-9 ? series[0].format(scale) : "";
  }

  function point(event) {
    if (!shown.length) return;
    const box = element.getBoundingClientRect();
    const at = shown.at(-1).at - WINDOW * (1 - (event.clientX - box.left) / box.width);
    const nearest = shown.reduce((best, one) =>
      Math.abs(one.at - at) < Math.abs(best.at - at) ? one : best,
    );
    const left = 100 * (1 - (shown.at(-1).at - nearest.at) / WINDOW);
    cursor.hidden = false;
    cursor.style.setProperty("--left", `${left}%`);
    cursor.classList.toggle("flip", left > 55);
    fill(
      cursor,
      h(
        "span",
        {},
        h("b", {}, time(nearest.at)),
        series.map(({ name, pick, format }) => h("span", {}, `${name} ${format(pick(nearest))}`)),
      ),
    );
  }

  function leave() {
    cursor.hidden = true;
  }

  return { element, draw };
}

/** A small line of the last minute, without axes. pick: message => number | null. */
export function sparkline(pick) {
  const line = svg("path", { class: "series line" });
  const element = svg(
    "svg",
    { class: "sparkline", viewBox: `0 0 ${WIDTH} 100`, preserveAspectRatio: "none", "aria-hidden": "true" },
    line,
  );
  function draw(samples) {
    const end = samples.at(-1).at;
    const points = samples.slice(-MINUTE).map(one => [WIDTH - ((end - one.at) * WIDTH) / MINUTE, pick(one)]);
    line.setAttribute(
      "d",
      path(points, Math.max(1e-9, ...points.map(([, y]) => y ?? 0)), false, (GAP * WINDOW) / MINUTE),
    );
  }
  return { element, draw };
}

/** gapFrom: units between two points from which on nothing is drawn between them. */
function path(points, scale, area, gapFrom) {
  let text = "";
  let start = null;
  let last = null;
  for (const [x, value] of points) {
    const gap = value === null || value === undefined || (last !== null && x - last > gapFrom);
    if (gap && start !== null) {
      if (area) text += `V100H${start}Z`;
      start = null;
    }
    if (value === null || value === undefined) continue;
    const y = (97 - 93 * Math.min(1, value / scale)).toFixed(1);
    if (start === null) {
      start = x.toFixed(1);
      text += area ? `M${start} 100V${y}` : `M${start} ${y}h.01`;
    } else {
      text += `L${x.toFixed(1)} ${y}`;
    }
    last = x;
  }
  return area && start !== null ? `${text}V100H${start}Z` : text;
}

/** The next of 1, 2, 5, 10, ... */
function ceiling(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 5, 7.5, 10].find(step => step * power >= value) * power;
}

// Nodes: which gateway on which host, and which of its workers, runs which revision, and since when.

import { get } from "../api.js";
import { fill, h } from "../dom.js";
import { failed } from "../parts/dialog.js";
import { reloaded } from "../parts/live.js";
import { table } from "../parts/table.js";
import { since } from "../parts/time.js";

export function page({ signal }) {
  const rows = table(
    [
      {
        name: "Host",
        cell: node =>
          "worker" in node
            ? h("span", { class: "dim" }, `worker ${node.worker}`)
            : h("span", {}, node.host, node.self ? h("span", { class: "tag" }, "this one") : null),
        sort: node => node.host,
        wide: true,
      },
      {
        name: "Process",
        cell: node => h("span", { class: "mono" }, node.pid),
        sort: node => node.pid,
        priority: 2,
      },
      {
        name: "Revision",
        cell: node => (node.revision ? `r${node.revision}` : "–"),
        sort: node => node.revision,
        number: true,
      },
      { name: "Since", cell: node => since(node.since), sort: node => node.since },
      { name: "Version", cell: node => node.version || "–", priority: 3 },
      { name: "Started", cell: node => (node.started ? since(node.started) : null), priority: 3 },
      { name: "Seen", cell: node => (node.seen ? since(node.seen) : null), priority: 3 },
      { name: "State", cell: state },
    ],
    { label: "Nodes", empty: "No node has reported yet." },
  );
  const holder = h("div", { class: "panel" }, rows.element);

  async function load() {
    try {
      const { nodes, available } = await get("nodes", signal);
      rows.show(nodes.flatMap(node => [node, ...workers(node)]));
      fill(holder, available ? null : away(), rows.element);
    } catch (problem) {
      failed(holder, problem);
    }
  }

  load();
  reloaded(load, signal);
  const timer = setInterval(load, 3000);
  signal.addEventListener("abort", () => clearInterval(timer));
  return {
    title: "Nodes",
    element: h("div", {}, h("header", { class: "page-head" }, h("h1", {}, "Nodes")), holder),
  };
}

function away() {
  return h("p", { class: "notice warn" }, "The others cannot be asked now: what they share is away.");
}

/** The workers of a node, as rows below it. */
function workers(node) {
  const { host, version } = node;
  return (node.workers ?? []).map(worker => ({ ...worker, host, version }));
}

/** Whether a node is where it should be, and why not. */
function state(node) {
  const tag = node.refused
    ? h("span", { class: "tag bad" }, "its source is refused")
    : node.lags
      ? h("span", { class: "tag warn" }, "lags")
      : node.state && node.state !== "ready"
        ? h("span", { class: "tag" }, node.state)
        : h("span", { class: "tag good" }, "up to date");
  return [tag, node.why ? h("div", { class: "dim" }, node.why) : null];
}

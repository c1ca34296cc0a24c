// A table that sorts by its columns, of rows that come as data.

import { fill, h } from "../dom.js";

/** columns: [{name, cell: row => node, sort: row => value (default: none), number: bool, priority: 1..3}]. Those of
 * priority 2 leave narrow pages, of 3 all but wide ones. Gives {element, show(rows)}. empty: what stands where no row is. */
export function table(
  columns,
  { label, empty = "Nothing.", sorted = -1, descending = false, href = null } = {},
) {
  let by = sorted;
  let down = descending;
  let rows = [];
  const heads = columns.map((column, index) => {
    const content = column.sort
      ? h("button", { type: "button", class: "sort", on: { click: () => sort(index) } }, column.name)
      : column.name;
    return h("th", { scope: "col", class: classes(column) }, content);
  });
  const body = h("tbody");
  const none = h("p", { class: "empty", hidden: true }, empty);
  const element = h(
    "div",
    { class: "table-box" },
    h("table", { "aria-label": label }, h("thead", {}, h("tr", {}, heads)), body),
    none,
  );

  function sort(index) {
    down = by === index ? !down : Boolean(columns[index].number);
    by = index;
    show(rows);
  }

  function show(given) {
    rows = given;
    heads.forEach((head, index) => {
      if (columns[index].sort)
        head.setAttribute("aria-sort", by !== index ? "none" : down ? "descending" : "ascending");
    });
    const value = columns[by]?.sort;
    const order = value ? [...rows].sort((a, b) => compare(value(a), value(b)) * (down ? -1 : 1)) : rows;
    fill(
      body,
      order.map(row =>
        h(
          "tr",
          { class: href ? "clickable" : null, on: href ? { click: event => follow(event, row) } : {} },
          columns.map(column => h("td", { class: classes(column) }, column.cell(row))),
        ),
      ),
    );
    none.hidden = rows.length > 0;
  }

  function follow(event, row) {
    if (!event.target.closest("a, button, input") && !String(getSelection())) location.hash = href(row);
  }

  return { element, show };
}

function classes({ number, priority, wide }) {
  return (
    [number ? "number" : "", priority ? `priority-${priority}` : "", wide ? "stretch" : ""]
      .filter(Boolean)
      .join(" ") || null
  );
}

function compare(a, b) {
  if (a === b) return 0;
  if (a === null || a === undefined) return -1;
  if (b === null || b === undefined) return 1;
  return typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b;
}

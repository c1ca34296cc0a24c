// The editor: a <textarea>, so that the keyboard, undo and screen readers work as everywhere, under a layer that draws
// the lines that are in sight: colours, problems beside their lines, what was found. So a text of 5,000 lines is as
// quick as one of fifty.

import { fill, h } from "../dom.js";
import { blocks, tokens } from "./yaml.js";

const INDENT = "  ";
const AROUND = 12; // lines that are drawn above and below what is in sight

/** Gives {element, area, text, set(text), problems(list), goTo(line), find(text, back), readOnly}. onchange: after each edit. */
export function editor({ label, onchange = () => {}, onapply = () => {}, readOnly = false }) {
  const ink = h("pre", { class: "ink", "aria-hidden": "true" });
  const numbers = h("div", { class: "numbers", "aria-hidden": "true" });
  const area = h("textarea", {
    "aria-label": label,
    spellcheck: "false",
    autocapitalize: "off",
    autocomplete: "off",
    wrap: "off",
    readonly: readOnly,
    "aria-describedby": "editor-help",
    on: { input: edited, scroll: draw, keydown: pressed },
  });
  const element = h(
    "div",
    { class: "editor" },
    h("div", { class: "gutter" }, numbers),
    h("div", { class: "code" }, ink, area),
  );
  let lines = [""];
  let inBlock = [false];
  let byLine = new Map(); // problems by the line's number, from 1
  let sought = "";
  let leaving = false; // Escape was pressed: the next Tab goes on to the next field
  new ResizeObserver(draw).observe(area);

  function edited() {
    read();
    draw();
    onchange(area.value);
  }

  function read() {
    lines = area.value.split("\n");
    inBlock = blocks(lines);
    element.style.setProperty("--digits", `${Math.max(3, String(lines.length).length)}ch`);
  }

  function draw() {
    const height = lineHeight();
    const first = Math.max(0, Math.floor(area.scrollTop / height) - AROUND);
    const last = Math.min(lines.length, Math.ceil((area.scrollTop + area.clientHeight) / height) + AROUND);
    const shown = Array.from({ length: last - first }, (_, index) => first + index);
    fill(
      ink,
      shown.map(index => drawn(lines[index], index)),
    );
    fill(
      numbers,
      shown.map(index => h("span", { class: byLine.has(index + 1) ? "bad" : null }, `${index + 1}\n`)),
    );
    const down = first * height - area.scrollTop;
    ink.style.setProperty("transform", `translate(${-area.scrollLeft}px, ${down}px)`);
    numbers.style.setProperty("transform", `translateY(${down}px)`);
  }

  function drawn(line, index) {
    const parts = inBlock[index] ? [["string", line]] : tokens(line);
    const wrong = byLine.get(index + 1);
    const element = h(
      "span",
      { class: wrong ? "line wrong" : "line" },
      sought ? matches(line) : null,
      parts.map(([kind, text]) => (kind ? h("span", { class: `y-${kind}` }, text) : text)),
      wrong
        ? h(
            "span",
            { class: "beside" },
            `  ${wrong[0].reason}${wrong.length > 1 ? ` (+${wrong.length - 1})` : ""}`,
          )
        : null,
      "\n",
    );
    return element;
  }

  function matches(line) {
    const found = [];
    const low = line.toLowerCase();
    for (
      let at = low.indexOf(sought);
      at >= 0 && found.length < 50;
      at = low.indexOf(sought, at + sought.length)
    ) {
      const mark = h("i", { class: "match" });
      mark.style.setProperty("left", `${at}ch`);
      mark.style.setProperty("width", `${sought.length}ch`);
      found.push(mark);
    }
    return found;
  }

  function lineHeight() {
    return parseFloat(getComputedStyle(area).lineHeight);
  }

  function pressed(event) {
    if (event.key === "Escape") {
      leaving = true;
      return;
    }
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s") onapply();
    else if (readOnly || event.ctrlKey || event.metaKey || event.altKey) return;
    else if (event.key === "Tab" && !leaving) indent(event.shiftKey);
    else if (event.key === "Enter") newLine();
    else {
      leaving = leaving && event.key === "Shift";
      return;
    }
    leaving = false;
    event.preventDefault();
  }

  /** As the browser's own typing, so that undo takes it back. */
  function type(text) {
    if (!document.execCommand("insertText", false, text)) {
      area.setRangeText(text, area.selectionStart, area.selectionEnd, "end");
      edited();
    }
  }

  function newLine() {
    const before = area.value.slice(0, area.selectionStart);
    const line = before.slice(before.lastIndexOf("\n") + 1);
    const more = /:\s*$/.test(line) ? INDENT : "";
    type(`\n${/^\s*/.exec(line)[0]}${more}`);
  }

  function indent(back) {
    const { selectionStart: from, selectionEnd: to, value } = area;
    if (from === to && !back) return type(INDENT);
    const start = value.lastIndexOf("\n", from - 1) + 1;
    const end = value.indexOf("\n", Math.max(to - 1, from));
    const part = value.slice(start, end < 0 ? undefined : end);
    const changed = part
      .split("\n")
      .map(line => (back ? line.replace(/^ {1,2}/, "") : line && INDENT + line))
      .join("\n");
    if (changed === part) return undefined;
    area.setSelectionRange(start, start + part.length);
    type(changed);
    if (from === to)
      area.setSelectionRange(
        Math.max(start, from + changed.length - part.length),
        Math.max(start, from + changed.length - part.length),
      );
    else area.setSelectionRange(start, start + changed.length);
    return undefined;
  }

  function set(text) {
    area.value = text;
    read();
    draw();
  }

  /** Show what is wrong beside its lines; one without a line stands at the first. */
  function problems(list) {
    byLine = Map.groupBy(list, ({ line }) => line || 1);
    draw();
  }

  function select(from, to, focus) {
    const above = area.value.slice(0, from).split("\n").length - 1;
    if (focus) area.focus({ preventScroll: true });
    area.setSelectionRange(from, to);
    area.scrollTop = Math.max(0, above * lineHeight() - area.clientHeight / 3);
    area.scrollLeft = 0;
    draw();
  }

  function goTo(line) {
    const from = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
    select(from, from + (lines[line - 1]?.length ?? 0), true);
  }

  /** Select the next place of a text, or the one before. Gives {place, of}. */
  function find(text, back = false, again = true) {
    sought = text.toLowerCase();
    const value = area.value.toLowerCase();
    const places = [];
    if (sought)
      for (let at = value.indexOf(sought); at >= 0; at = value.indexOf(sought, at + sought.length))
        places.push(at);
    const from = area.selectionStart + (again ? 0 : -1);
    let place = back
      ? places.findLastIndex(at => at < area.selectionStart)
      : places.findIndex(at => at > from);
    if (place < 0 && places.length) place = back ? places.length - 1 : 0;
    if (places.length) select(places[place], places[place] + sought.length, false);
    else draw();
    return { place: place + 1, of: places.length };
  }

  return {
    element,
    area,
    set,
    problems,
    goTo,
    find,
    get text() {
      return area.value;
    },
  };
}

/** A field that finds in an editor: Enter the next, Shift and Enter the one before. */
export function finder(edit) {
  const number = h("span", { class: "dim find-count", role: "status" });
  const field = h("input", {
    type: "search",
    "data-search": true,
    placeholder: "Find  ( / )",
    "aria-label": "Find in the text",
    on: { input: () => seek(false, false), keydown: pressed },
  });
  function seek(back, again = true) {
    const { place, of } = edit.find(field.value, back, again);
    number.textContent = field.value ? (of ? `${place}/${of}` : "none") : "";
  }
  function pressed(event) {
    if (event.key === "Enter") seek(event.shiftKey);
    else if (event.key === "Escape") edit.area.focus();
    else return;
    event.preventDefault();
  }
  edit.area.addEventListener("keydown", event => {
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "f") {
      event.preventDefault();
      field.focus();
      field.select();
    }
  });
  return { element: h("span", { class: "find" }, field, number), field, seek };
}

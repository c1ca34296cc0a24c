// Makes elements. Children are nodes or text: whatever a server says is shown as text, never read as markup.

const SVG = "http://www.w3.org/2000/svg";

/** An HTML element. attributes: `on` has listeners by event; true is an attribute without a value; null, undefined
 * and false are left out. children: nodes, text, lists of them; null and false are left out. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    } else if (name === "value") {
      element.value = value;
    } else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...nodes(children));
  return element;
}

/** Put these in place of all that an element holds. */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
}

function nodes(children) {
  return children
    .flat(Infinity)
    .filter(child => child !== null && child !== undefined && child !== false)
    .map(child => (child instanceof Node ? child : String(child)));
}

/** Set an element's text, only where it differs: a selection and a screen reader are left alone. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Bring the children of a container in line with items, in their order; an item's element lives as long as its key.
 * make(item) -> element, update(element, item). */
export function keyed(container, items, key, make, update) {
  const before = container.elementsByKey ?? new Map();
  const after = new Map();
  let place = container.firstElementChild;
  for (const item of items) {
    const name = key(item);
    const element = before.get(name) ?? make(item);
    update(element, item);
    after.set(name, element);
    if (element === place) place = place.nextElementSibling;
    else container.insertBefore(element, place);
  }
  for (const [name, element] of before) if (!after.has(name)) element.remove();
  container.elementsByKey = after;
}

/** A function that runs `work` once, `wait` milliseconds after its last call. */
export function debounced(work, wait) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(work, wait, ...values);
  };
}

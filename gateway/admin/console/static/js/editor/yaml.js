// The colours of YAML, line by line: lists of [class, text]. It judges nothing; the gateway does.

const KEY = /(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*'|[^\s#'"{[&*!|>%@`,\]}][^#]*?)(?=:(?:\s|$))/y;
const QUOTED = /^(?:"(?:[^"\\]|\\.)*"|'(?:[^']|'')*')/;
const WORD = /^(?:true|false|null|~|yes|no|-?\d[\d_.]*(?:[a-zA-Z]{0,3}|\/[a-z]+))$/;
const FLOW =
  /("(?:[^"\\]|\\.)*"|'(?:[^']|'')*')|([{}[\],])|([\w.$-]+(?=\s*:\s))|(:)(?=\s)|([&*][\w-]+)|([^\s{}[\],"']+)|(\s+|.)/g;
const BLOCK = /(?:^|[\s:-])[|>][+-]?\d?[+-]?\s*(?:\s#.*)?$/;

/** Which lines are inside of a block scalar (`|`, `>`), where nothing has a colour. */
export function blocks(lines) {
  let indent = -1;
  return lines.map(line => {
    const depth = line.search(/\S/);
    if (indent >= 0) {
      if (depth < 0 || depth > indent) return true;
      indent = -1;
    }
    if (depth >= 0 && /[|>]/.test(line) && BLOCK.test(line) && !line.trimStart().startsWith("#"))
      indent = depth;
    return false;
  });
}

/** The parts of a line. */
export function tokens(line) {
  const start = /^\s*(?:-(?:\s+|$))*/.exec(line)[0];
  const found = start ? [["mark", start]] : [];
  KEY.lastIndex = start.length;
  const key = line[start.length] === "#" ? null : KEY.exec(line);
  let rest = line.slice(start.length);
  if (key) {
    found.push(["key", key[0]], ["mark", ":"]);
    rest = rest.slice(key[0].length + 1);
  }
  const [given, comment] = parted(rest);
  if (given) found.push(...values(given));
  if (comment) found.push(["comment", comment]);
  return found;
}

/** A value, and the comment behind it. */
function parted(text) {
  let quote = "";
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at];
    if (quote) {
      if (character === "\\" && quote === '"') at += 1;
      else if (character === quote) quote = "";
    } else if ((character === '"' || character === "'") && !/[\w)]/.test(text[at - 1] ?? "")) {
      quote = character;
    } else if (character === "#" && /^\s?$/.test(text[at - 1] ?? "")) {
      return [text.slice(0, at), text.slice(at)];
    }
  }
  return [text, ""];
}

function values(text) {
  const inner = text.trimStart();
  const space = text.slice(0, text.length - inner.length);
  if (/^[{[]/.test(inner) || (/[}\]]\s*$/.test(inner) && /[,:]\s/.test(inner)))
    return [["", space], ...flow(inner)];
  if (QUOTED.test(inner)) return [["string", text]];
  if (/^[&*!]/.test(inner)) {
    const [name] = /^\S+/.exec(inner);
    const behind = inner.slice(name.length);
    return [["anchor", space + name], ...(behind ? values(behind) : [])];
  }
  return [[WORD.test(inner.trim()) ? "word" : "plain", text]];
}

function flow(text) {
  return [...text.matchAll(FLOW)].map(([whole, string, mark, key, colon, anchor, plain]) => [
    string
      ? "string"
      : mark || colon
        ? "mark"
        : key
          ? "key"
          : anchor
            ? "anchor"
            : plain
              ? WORD.test(plain)
                ? "word"
                : "plain"
              : "",
    whole,
  ]);
}

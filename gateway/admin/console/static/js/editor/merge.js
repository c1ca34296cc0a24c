// Two edits of one text together, line by line, as diff3 does it.

const MOST = 4e6; // cells of the table of two parts; beyond it they count as replaced whole

/** What both made of `base`: {text, conflicts}. Where both changed the same lines, both stand there between markers that
 * no config may have, so that the check shows the place. */
export function merge(base, mine, theirs, name) {
  const lines = base.split("\n");
  const ours = hunks(lines, mine.split("\n"));
  const others = hunks(lines, theirs.split("\n"));
  const merged = [];
  let at = 0;
  let conflicts = 0;
  while (ours.length || others.length) {
    const start = Math.min(ours[0]?.start ?? Infinity, others[0]?.start ?? Infinity);
    const group = take(ours, others, start);
    const here = applied(lines, start, group.end, group.ours);
    const there = applied(lines, start, group.end, group.others);
    merged.push(...lines.slice(at, start));
    if (!group.others.length || here.join("\n") === there.join("\n")) merged.push(...here);
    else if (!group.ours.length) merged.push(...there);
    else {
      conflicts += 1;
      merged.push("<<<<<<< yours", ...here, "=======", ...there, `>>>>>>> ${name}`);
    }
    at = group.end;
  }
  merged.push(...lines.slice(at));
  return { text: merged.join("\n"), conflicts };
}

/** The hunks from `start` on that touch each other, taken off both lists. */
function take(ours, others, start) {
  const group = { end: start, ours: [], others: [] };
  for (let more = true; more;) {
    more = false;
    for (const [list, into] of [
      [ours, group.ours],
      [others, group.others],
    ]) {
      while (list.length && list[0].start <= group.end) {
        const hunk = list.shift();
        into.push(hunk);
        group.end = Math.max(group.end, hunk.end);
        more = true;
      }
    }
  }
  return group;
}

function applied(lines, start, end, list) {
  const made = [];
  let at = start;
  for (const hunk of list) {
    made.push(...lines.slice(at, hunk.start), ...hunk.lines);
    at = hunk.end;
  }
  return [...made, ...lines.slice(at, end)];
}

/** What makes `after` of `before`: [{start, end, lines}], each in place of before[start..end). */
function hunks(before, after) {
  let head = 0;
  while (head < before.length && head < after.length && before[head] === after[head]) head += 1;
  let tail = 0;
  while (
    tail < before.length - head &&
    tail < after.length - head &&
    before.at(-1 - tail) === after.at(-1 - tail)
  )
    tail += 1;
  const a = before.slice(head, before.length - tail);
  const b = after.slice(head, after.length - tail);
  if (!a.length && !b.length) return [];
  if (!a.length || !b.length || a.length * b.length > MOST)
    return [{ start: head, end: head + a.length, lines: b }];
  return walked(a, b, common(a, b), head);
}

/** common(a, b)[i * width + j]: the length of the longest common run of lines of a from i on and b from j on. */
function common(a, b) {
  const width = b.length + 1;
  const table = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      table[i * width + j] =
        a[i] === b[j]
          ? table[(i + 1) * width + j + 1] + 1
          : Math.max(table[(i + 1) * width + j], table[i * width + j + 1]);
    }
  }
  return table;
}

function walked(a, b, table, offset) {
  const width = b.length + 1;
  const found = [];
  let open = null;
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      open = null;
      i += 1;
      j += 1;
      continue;
    }
    if (!open) {
      open = { start: offset + i, end: offset + i, lines: [] };
      found.push(open);
    }
    if (j < b.length && (i === a.length || table[i * width + j + 1] >= table[(i + 1) * width + j])) {
      open.lines.push(b[j]);
      j += 1;
    } else {
      i += 1;
      open.end = offset + i;
    }
  }
  return found;
}

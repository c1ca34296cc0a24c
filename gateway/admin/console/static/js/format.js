// Numbers and times as people read them.

import { now } from "./clock.js";

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** 0.4, 12, 12,345, 123.4k. null and undefined: a dash. */
export function amount(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1e6) return `${(value / 1e6).toFixed(value < 1e7 ? 2 : 1)}M`;
  if (value >= 1e5) return `${(value / 1e3).toFixed(1)}k`;
  return value > 0 && value < 10 && value % 1 ? value.toFixed(1) : WHOLE.format(value);
}

/** Milliseconds: 0.8 ms, 12 ms, 1.25 s. */
export function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1000) return `${(value / 1000).toFixed(value < 10000 ? 2 : 1)} s`;
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

/** Of 1: 0 %, 0.04 %, 12 %. */
export function percent(part) {
  if (part === null || part === undefined) return "–";
  const value = 100 * part;
  return `${value > 0 && value < 10 ? value.toFixed(value < 0.1 ? 2 : 1) : Math.round(value)} %`;
}

/** 512 B, 1.4 MiB. */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  let unit = 0;
  while (value >= 1024 && unit < 4) {
    value /= 1024;
    unit += 1;
  }
  return `${unit && value < 10 ? value.toFixed(1) : Math.round(value)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}

/** A time of day, with the date where it is not today's. at: seconds since the epoch. */
export function time(at) {
  if (!at) return "–";
  const when = new Date(at * 1000);
  const clock = when.toLocaleTimeString("en-GB");
  return when.toDateString() === new Date().toDateString() ? clock : `${date(when)} ${clock}`;
}

function date(when) {
  const two = number => String(number).padStart(2, "0");
  return `${when.getFullYear()}-${two(when.getMonth() + 1)}-${two(when.getDate())}`;
}

/** How long ago: just now, 40 s ago, 3 min ago. */
export function ago(at) {
  if (!at) return "–";
  const seconds = now() - at;
  return seconds < 5 ? "just now" : `${span(seconds)} ago`;
}

/** A length of time, in its largest unit. */
export function span(seconds) {
  for (const [length, unit] of [
    [86400, "d"],
    [3600, "h"],
    [60, "min"],
  ]) {
    if (seconds >= length) return `${Math.floor(seconds / length)} ${unit}`;
  }
  return `${Math.max(0, Math.round(seconds))} s`;
}

/** What is left, as a clock: 0:09, 12:30. */
export function clock(seconds) {
  const left = Math.max(0, Math.ceil(seconds));
  return `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
}

/** 1 request, 2 requests. */
export function count(number, one, many = `${one}s`) {
  return `${amount(number)} ${number === 1 ? one : many}`;
}

/** The members of a part of the config, those of parts in it with their path: [["timeouts.total", "5s"], ...]. */
export function members(part, path = "") {
  return Object.entries(part).flatMap(([key, given]) => {
    const name = path + key;
    return given !== null && typeof given === "object" && !Array.isArray(given)
      ? members(given, `${name}.`)
      : [[name, value(given)]];
  });
}

/** A value of the config on one line. */
export function value(given) {
  if (given === undefined || given === null) return "–";
  if (Array.isArray(given) && given.every(one => typeof one !== "object")) return given.join(", ");
  return typeof given === "string" ? given : JSON.stringify(given);
}

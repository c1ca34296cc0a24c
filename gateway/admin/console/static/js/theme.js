// Light or dark: as the system has it, or as the operator chose.

const KEY = "gateway.theme";
const root = document.documentElement;

/** Show the chosen theme, if one was chosen. */
export function restore() {
  const chosen = localStorage.getItem(KEY);
  if (chosen) root.dataset.theme = chosen;
}

/** The other one from now on. */
export function toggle() {
  const next = isDark() ? "light" : "dark";
  root.dataset.theme = next;
  localStorage.setItem(KEY, next);
}

function isDark() {
  const chosen = root.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

// Times and amounts as people read them. Times come as ISO 8601 in UTC with microseconds; the server's clock counts.

import { h } from "./dom.js";

let ahead = 0; // the server's clock minus this one, in ms

export const setNow = (iso) => { ahead = Date.parse(iso) - Date.now(); };
export const now = () => Date.now() + ahead;
export const ms = (iso) => Date.parse(iso);

const two = (number) => String(number).padStart(2, "0");

export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const size = Math.abs(seconds);
  const sign = seconds < 0 ? "-" : "";
  if (size === 0) return "0 s";
  if (size < 0.001) return `${sign}${Math.round(size * 1e6)} µs`;
  if (size < 1) return `${sign}${size < 0.01 ? (size * 1000).toFixed(1) : Math.round(size * 1000)} ms`;
  if (size < 60) return `${sign}${size < 10 ? size.toFixed(1) : Math.floor(size)} s`;
  const whole = Math.floor(size);
  if (size < 3600) return `${sign}${Math.floor(whole / 60)} min${whole % 60 ? ` ${whole % 60} s` : ""}`;
  if (size < 86400) return `${sign}${Math.floor(whole / 3600)} h${Math.floor(whole / 60) % 60 ? ` ${Math.floor(whole / 60) % 60} min` : ""}`;
  return `${sign}${Math.floor(whole / 86400)} d${Math.floor(whole / 3600) % 24 ? ` ${Math.floor(whole / 3600) % 24} h` : ""}`;
}

// A span that is read at a glance: 4 min, 2 h, 3 d.
function rough(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

export function relative(iso) {
  const seconds = (ms(iso) - now()) / 1000;
  if (Math.abs(seconds) < 1) return "now";
  return seconds > 0 ? `in ${rough(seconds)}` : `${rough(-seconds)} ago`;
}

export function local(iso, { seconds = true } = {}) {
  const at = new Date(ms(iso));
  const today = new Date(now());
  const clock = `${two(at.getHours())}:${two(at.getMinutes())}${seconds ? `:${two(at.getSeconds())}` : ""}`;
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return at.toDateString() === today.toDateString() ? clock : `${day} ${clock}`;
}

export const utc = (iso) => `${iso.slice(0, 10)} ${iso.slice(11, 23)} UTC`;

// A moment: relative, with the clock time beside it; UTC on hover. `tick` below keeps it true.
export function moment(iso, { clock = true, none = "–" } = {}) {
  if (!iso) return h("span", { class: "dim" }, none);
  return h("time", { datetime: iso, title: utc(iso) },
    h("span", { "data-relative": iso }, relative(iso)),
    clock ? h("span", { class: "dim clock" }, ` ${local(iso)}`) : null);
}

export const elapsed = (iso) => h("span", { "data-elapsed": iso, title: `since ${utc(iso)}` }, span(Math.max(0, (now() - ms(iso)) / 1000)));

export function tick() {
  for (const node of document.querySelectorAll("[data-relative]")) change(node, relative(node.dataset.relative));
  for (const node of document.querySelectorAll("[data-elapsed]")) {
    change(node, span(Math.max(0, Math.floor((now() - ms(node.dataset.elapsed)) / 1000))));
  }
}

const change = (node, text) => { if (node.textContent !== text) node.textContent = text; };

export const count = (number) => (number === null || number === undefined ? "–" : Number(number).toLocaleString("en"));

export function bytes(number) {
  if (number === null || number === undefined) return "–";
  let size = Number(number);
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (size < 1024 || unit === "TiB") return `${unit === "B" || size >= 100 ? Math.round(size) : size.toFixed(1)} ${unit}`;
    size /= 1024;
  }
  return "–";
}


// The last hour, minute by minute: what succeeded stands above the line, what failed hangs below it.

import { h, put, s } from "./dom.js";
import { count, local } from "./times.js";

const UP = 88;
const DOWN = 34;
const HEIGHT = UP + DOWN + 18;

export function bars(signal) {
  let minutes = [];
  let at = null;
  const drawing = h("div", { class: "bars", tabindex: "0", role: "img", "aria-label": "Ended jobs by minute" });
  const readout = h("p", { class: "readout small", "aria-live": "off" });
  const tell = () => {
    const chosen = at === null ? null : minutes[at];
    const of = (name) => (chosen ? chosen[name] : minutes.reduce((sum, each) => sum + each[name], 0));
    put(readout, h("strong", {}, chosen ? local(chosen.minute, { seconds: false }) : "60 minutes"),
      [["success", "✓"], ["failed", "✕"], ["canceled", "–"], ["retried", "↻"]].map(([name, sign]) =>
        h("span", { class: `key s-${name}` }, h("span", { class: "sign", "aria-hidden": "true" }, sign), ` ${count(of(name))} ${name}`)));
    drawing.setAttribute("aria-label", `Ended jobs by minute. ${readout.textContent}. Arrow keys go through the minutes.`);
  };
  const draw = () => {
    const width = Math.floor(drawing.clientWidth);
    if (!width || !minutes.length) return;
    put(drawing, chart(minutes, width, at));
  };
  const choose = (next) => {
    at = next;
    draw();
    tell();
  };
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") choose(null);
    if (!step || !minutes.length) return;
    event.preventDefault();
    choose(Math.min(Math.max((at ?? (step < 0 ? minutes.length : -1)) + step, 0), minutes.length - 1));
  });
  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect();
    const over = Math.floor(((event.clientX - box.left) / box.width) * minutes.length);
    if (over >= 0 && over < minutes.length && over !== at) choose(over);
  });
  drawing.addEventListener("pointerleave", () => choose(null));
  drawing.addEventListener("blur", () => choose(null));
  const watch = new ResizeObserver(draw);
  watch.observe(drawing);
  signal.addEventListener("abort", () => watch.disconnect());
  return { node: h("div", {}, drawing, readout), show(found) { minutes = found; draw(); tell(); } };
}

function chart(minutes, width, at) {
  const each = width / minutes.length;
  const up = Math.max(1, ...minutes.map((minute) => minute.success + minute.canceled));
  const down = Math.max(1, ...minutes.map((minute) => minute.failed));
  const parts = minutes.flatMap((minute, index) => {
    const x = index * each + 0.5;
    const wide = Math.max(1, each - 1.5);
    const tall = (n) => (n ? Math.max(2, (n / up) * (UP - 16)) : 0);
    const success = tall(minute.success);
    const canceled = tall(minute.canceled);
    const failed = minute.failed ? Math.max(3, (minute.failed / down) * (DOWN - 6)) : 0;
    return [
      index === at ? s("rect", { class: "cursor", x: x - 0.5, y: 0, width: each, height: UP + DOWN }) : null,
      success ? s("rect", { class: "bar s-success", x, y: UP - success, width: wide, height: success, rx: 1 }) : null,
      canceled ? s("rect", { class: "bar s-canceled", x, y: UP - success - canceled, width: wide, height: canceled, rx: 1 }) : null,
      failed ? s("rect", { class: "bar s-failed", x, y: UP + 1, width: wide, height: failed, rx: 1 }) : null,
    ];
  });
  const label = (index, anchor) => s("text", { class: "label", x: anchor === "start" ? 0 : anchor === "end" ? width : index * each, y: HEIGHT - 3, "text-anchor": anchor },
    local(minutes[index].minute, { seconds: false }).slice(-5));
  return s("svg", { class: "chart", width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, "aria-hidden": "true" },
    s("line", { class: "lane", x1: 0, x2: width, y1: UP + 0.5, y2: UP + 0.5 }), parts,
    parts.some(Boolean) ? s("text", { class: "label", x: 0, y: 10, "text-anchor": "start" }, `up to ${count(up)} a minute`) : null,
    label(0, "start"), label(Math.floor(minutes.length / 2), "middle"), label(minutes.length - 1, "end"));
}

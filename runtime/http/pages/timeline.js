// What is due in the next hour or day: jobs and crons on a line each, what stands too close drawn as one, counted.

import { h, link, put, roving, s, tip } from "./dom.js";
import { local, ms, now, relative } from "./times.js";

const HOUR = 3600e3;
const SPANS = { hour: { name: "Next hour", ms: HOUR, step: 10 * 60e3 }, day: { name: "Next day", ms: 24 * HOUR, step: 3 * HOUR } };
const LANES = [["job", "Jobs"], ["cron", "Crons"]];
const HEIGHT = 118;
const LEFT = 52;
const RIGHT = 14;
const TOP = 26;
const LANE = 40;
const APART = 35; // px: closer than that is one mark

export function timeline(signal) {
  let items = [];
  let more = false;
  let chosen = "hour";
  let drawn = "";
  const node = h("div", { class: "timeline" });
  const note = h("p", { class: "dim small" });
  const buttons = h("span", { class: "switch", role: "group", "aria-label": "Span" }, Object.entries(SPANS).map(([name, span]) =>
    h("button", { type: "button", "aria-pressed": String(name === chosen), "data-span": name, on: { click: () => choose(name) } }, span.name)));
  const choose = (name) => {
    chosen = name;
    for (const each of buttons.children) each.setAttribute("aria-pressed", String(each.dataset.span === name));
    draw();
  };
  const draw = () => {
    const width = Math.floor(node.clientWidth);
    if (!width || node.contains(document.activeElement) || node.matches(":hover") && node.querySelector("svg") && drawn === `${chosen} ${width}`) return;
    drawn = `${chosen} ${width}`;
    const { marks, shown: inside } = cluster(items, chosen, width);
    put(node, drawing(marks, chosen, width));
    roving(node, ".mark");
    put(note, inside ? `${inside}${more && inside === items.length ? " or more" : ""} due in the ${chosen === "hour" ? "next hour" : "next day"}.` : `Nothing is due in the ${chosen === "hour" ? "next hour" : "next day"}.`);
  };
  const watch = new ResizeObserver(draw);
  watch.observe(node);
  signal.addEventListener("abort", () => watch.disconnect());
  return { node: h("div", {}, node, note), buttons, show(found, cutOff) { items = found; more = cutOff; draw(); } };
}

function cluster(items, chosen, width) {
  const span = SPANS[chosen].ms;
  const start = now();
  const marks = [];
  let inside = 0;
  for (const item of items) {
    const after = ms(item.at) - start;
    if (after > span) continue;
    inside += 1;
    const x = LEFT + (Math.max(0, after) / span) * (width - LEFT - RIGHT);
    const last = marks.findLast((mark) => mark.kind === item.kind);
    if (last && x - last.x0 < APART) last.items.push(item);
    else marks.push({ kind: item.kind, x0: x, items: [item] });
  }
  return { marks, shown: inside };
}

function drawing(marks, chosen, width) {
  const { ms: span, step, name } = SPANS[chosen];
  const start = now();
  const axis = [];
  let steps = 0;
  // Whole steps of the local clock.
  const zone = new Date(start).getTimezoneOffset() * 60e3;
  for (let at = Math.ceil((start - zone) / step) * step + zone; at <= start + span; at += step) {
    const x = LEFT + ((at - start) / span) * (width - LEFT - RIGHT);
    steps += 1;
    axis.push(s("line", { class: "rule", x1: x, x2: x, y1: TOP - 4, y2: HEIGHT - 6 }));
    if (x < width - 30 && x > LEFT + 26 && (width > 500 || steps % 2 === 0)) {
      axis.push(s("text", { class: "label", x, y: 14, "text-anchor": "middle" }, local(new Date(at).toISOString(), { seconds: false }).slice(-5)));
    }
  }
  return s("svg", { class: "chart", width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "group", "aria-label": `${name}: what is due` },
    axis,
    s("text", { class: "label now", x: LEFT, y: 14, "text-anchor": "middle" }, "now"),
    s("line", { class: "now", x1: LEFT, x2: LEFT, y1: TOP - 6, y2: HEIGHT - 6 }),
    LANES.map(([kind, title], lane) => [
      s("text", { class: "label", x: 0, y: TOP + LANE * lane + LANE / 2 + 5 }, title),
      s("line", { class: "lane", x1: LEFT, x2: width - RIGHT, y1: TOP + LANE * lane + LANE / 2, y2: TOP + LANE * lane + LANE / 2 }),
      marks.filter((mark) => mark.kind === kind).map((each) => drawMark(each, TOP + LANE * lane + LANE / 2)),
    ]));
}

function drawMark(mark, y) {
  const many = mark.items.length;
  const radius = many === 1 ? 6 : Math.min(17, 9 + Math.log10(many) * 4);
  const lines = () => [
    ...mark.items.slice(0, 6).map((item) => `${relative(item.at)}, ${local(item.at)}: ${item.kind === "cron" ? item.cron : item.path}`),
    ...(many > 6 ? [`and ${many - 6} more`] : []),
  ];
  const [first] = mark.items;
  const href = mark.kind === "cron"
    ? (many === 1 ? link("crons", { name: first.cron }) : "#/crons")
    : (many === 1 ? link(`jobs/${encodeURIComponent(first.id)}`) : link("jobs", { state: "pending" }));
  return tip(s("a", { class: `mark ${mark.kind}`, href, tabindex: "-1", "aria-label": `${many} due. ${lines().join(". ")}` },
    s("circle", { cx: mark.x0, cy: y, r: radius }),
    many > 1 ? s("text", { x: mark.x0, y: y + 4, "text-anchor": "middle" }, many > 999 ? "999+" : String(many)) : null), lines);
}

// What is due next, what runs now, and what went wrong: the place to look first.

import { get } from "./api.js";
import { bars } from "./bars.js";
import { h, link, morph, put, shown } from "./dom.js";
import { timeline } from "./timeline.js";
import { count, elapsed, moment, setNow, span } from "./times.js";
import { card, cronLink, empty, functionLink, heading, steady, table, why } from "./widgets.js";

const UPCOMING = 500;
const NEXT = 5;

export async function show(main, { signal, refresh }) {
  const banner = h("div");
  const tiles = h("dl", { class: "tiles", "aria-label": "Figures" });
  const next = h("div", { class: "next" });
  const nextNote = h("span", { class: "note" });
  const nextUp = steady(next, nextNote, (items) => put(next, soonest(items)));
  const line = timeline(signal);
  const chart = bars(signal);
  const running = list("Running now", "running", [
    { title: "Function", class: "wide", cell: functionLink },
    { title: "Attempt", class: "num", cell: (job) => String(job.attempt) },
    { title: "For", class: "num", cell: (job) => (job.started_at ? elapsed(job.started_at) : "–") },
  ], "Nothing runs right now.");
  const failures = list("Newest failures", "failures", [
    { title: "Function", class: "name", cell: functionLink },
    { title: "Error", class: "wide", cell: why },
    { title: "When", class: "when", cell: (job) => moment(job.completed_at) },
  ], "No job has failed.");
  put(main, heading("Overview"), banner, tiles,
    h("div", { class: "grid wide-left" },
      card("Due next", { id: "due", beside: [nextNote, line.buttons] }, line.node, next),
      h("div", { class: "stack" }, card("Last hour", { id: "hour" }, chart.node), running.node)),
    failures.node);

  const soon = refresh(async () => {
    const [stats, upcoming] = await Promise.all([
      get("admin/stats", {}, { signal }), get("admin/upcoming", { limit: UPCOMING }, { signal }),
    ]);
    setNow(stats.now);
    morph(banner, banners(stats));
    morph(tiles, figures(stats));
    line.show(upcoming.items, upcoming.items.length >= UPCOMING);
    nextUp(upcoming.items.slice(0, NEXT), (item) => item.id ?? item.cron);
    chart.show(stats.throughput);
    running.show(stats.running);
    failures.show(stats.failures);
  }, { every: 10000, least: 1500 });
  return soon;
}

function list(title, id, columns, nothing) {
  const note = h("span", { class: "note" });
  const body = h("div", {}, empty("…"));
  const node = card(title, { id, note }, body);
  const rows = table(title, columns, []);
  const change = steady(body, note, (items) => put(body, items.length ? rows.fill(items) : empty(nothing)));
  return { node, show: (items) => change(items, (item) => item.id) };
}

function banners(stats) {
  const told = [];
  if (!stats.ready) told.push(h("p", { class: "notice bad" }, h("strong", {}, "Not ready. "), shown(stats.unready_reason ?? "", { tag: "span" })));
  if (stats.paused !== null) {
    told.push(h("p", { class: "notice warn" }, h("strong", {}, "Everything is paused: no job starts. "), shown(stats.paused, { tag: "span" }), " ",
      h("a", { href: "#/health" }, "Resume under Health")));
  }
  if (stats.crons.troubled) told.push(h("p", { class: "notice warn" }, `${stats.crons.troubled} crons are in trouble. `, h("a", { href: "#/crons" }, "See them")));
  return told;
}

function figures(stats) {
  const late = stats.lag_seconds > 5;
  return [
    tile("Due now", count(stats.jobs.due), stats.jobs.due ? `the oldest for ${span(stats.lag_seconds)}` : "nothing waits", late ? "warn" : "", link("jobs", { state: "pending" })),
    tile("Running", count(stats.jobs.in_progress), "actions", "", link("jobs", { state: "in_progress" })),
    tile("Pending", count(stats.jobs.pending), "scheduled", "", link("jobs", { state: "pending" })),
    tile("Failed", count(stats.jobs.failed), "to look at", stats.jobs.failed ? "bad" : "", link("jobs", { state: "failed" })),
    tile("Start lag", span(stats.latency.start_lag_p50_seconds), `99 %: ${span(stats.latency.start_lag_p99_seconds)}`),
    tile("Commit", span(stats.latency.commit_p50_seconds), `99 %: ${span(stats.latency.commit_p99_seconds)}`),
    tile("Crons", count(stats.crons.total), stats.crons.paused ? `${stats.crons.paused} paused` : "none paused", "", "#/crons"),
  ];
}

function tile(name, value, about, kind = "", href = null) {
  return h("div", { class: `tile ${kind}` }, h("dt", {}, href ? h("a", { href }, name) : name), h("dd", {}, h("b", {}, value), h("span", { class: "dim" }, about)));
}

function soonest(items) {
  if (!items.length) return empty("Nothing is scheduled.");
  return table("The next to be due", [
    { title: "Due", class: "when", cell: (item) => moment(item.at) },
    { title: "What", class: "wide", cell: (item) => (item.kind === "cron" ? cronLink(item.cron) : functionLink(item)) },
    { title: "", class: "kind", cell: (item) => h("span", { class: "dim" }, item.kind === "cron" ? "cron" : item.cron ? "job of a cron" : "job") },
  ], items);
}


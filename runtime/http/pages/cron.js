// One cron: its next ticks in UTC and on its own wall clock, its rules, and what became of its ticks.

import { get, pretty } from "./api.js";
import { h, link, put, roving, shown } from "./dom.js";
import { cronButtons, policy, rule, stateOf } from "./crons.js";
import { moment, span, utc } from "./times.js";
import { badge, card, empty, functionLink, heading, older, runCells, steady, table } from "./widgets.js";

const RUNS = 100;
const TICKS = 6;

export async function show(main, { me, params, signal, refresh }) {
  const { name } = params;
  const head = h("div", {}, heading(shown(name, { most: 200 })));
  const ticks = h("div", {});
  const about = h("div", {});
  const strip = h("div", { class: "strip long", role: "group", "aria-label": "Last runs, oldest first" });
  const note = h("span", { class: "note" });
  const box = h("div", {}, empty("…"));
  put(main, h("p", { class: "crumbs" }, h("a", { href: "#/crons" }, "Crons"), " / ", shown(name, { most: 120 })), head,
    h("div", { class: "grid" }, card("Next ticks", { id: "ticks" }, ticks), card("Rules", { id: "rules" }, about)),
    card("Runs", { id: "runs", note, beside: h("a", { href: link("jobs", { cron: name }) }, "Its jobs") }, strip, box));
  const rows = table("Runs", [
    { title: "State", class: "state", cell: (run) => badge(run.state, run.reason ?? "") },
    { title: "Tick", class: "when", cell: (run) => [moment(run.tick), run.ticks > 1 ? h("span", { class: "dim" }, ` ${run.ticks} ticks`) : null] },
    { title: "Job", class: "wide", cell: (run) => [run.job_id ? functionLink({ id: run.job_id, path: run.job_id }) : "–", run.manual ? h("span", { class: "dim" }, " by hand") : null, run.job_id && run.skipped ? h("span", { class: "dim" }, ` ${older(run.skipped)}`) : null, run.error ? h("div", { class: "why" }, shown(run.error, { most: 300 })) : null] },
    { title: "Lag", class: "num", cell: (run) => span(run.lag_seconds) },
    { title: "Took", class: "num", cell: (run) => span(run.duration_seconds) },
  ], []);
  const change = steady(box, note, (items) => put(box, items.length ? rows.fill(items) : empty("No runs are kept.")));
  let soon = () => {};
  let known = "";
  const load = async () => {
    let cron;
    try {
      cron = await get("admin/cron", { name }, { signal, exact: true });
    } catch (error) {
      if (error.status !== 404) throw error;
      put(main, heading("There is no such cron"), h("p", {}, h("a", { href: "#/crons" }, "All crons")));
      return;
    }
    const [preview, runs] = await Promise.all([
      get("admin/cron/preview", { name, n: TICKS }, { signal }).catch((error) => { if (error.ended || error.name === "AbortError") throw error; return { ticks: [], local: [] }; }),
      get("admin/cron/runs", { name, limit: RUNS }, { signal }),
    ]);
    const text = JSON.stringify([cron, preview]);
    if (text !== known) {
      known = text;
      put(head, heading(shown(name, { most: 200 }), stateOf(cron), h("span", { class: "actions" }, cronButtons(cron, me, () => soon(true)))),
        cron.description ? h("p", { class: "dim" }, shown(cron.description)) : null,
        cron.paused ? h("p", { class: "notice warn" }, h("strong", {}, "Paused. "), cron.note ? shown(cron.note, { tag: "span" }) : "") : null,
        cron.trouble ? h("p", { class: "notice bad" }, h("strong", {}, "Trouble. "), shown(cron.trouble, { tag: "span" })) : null);
      put(ticks, nextTicks(cron, preview));
      put(about, rules(cron));
    }
    if (!strip.contains(document.activeElement)) roving(put(strip, runCells(runs.items)), ".cell", { last: true });
    change(runs.items, (run) => `${run.job_id} ${run.tick}`);
  };
  let first = null;
  const loaded = new Promise((resolve) => { first = resolve; });
  soon = refresh(() => load().finally(first), { every: 20000, least: 1500 });
  await loaded;
}

function nextTicks(cron, preview) {
  if (!preview.ticks.length) return empty("No tick is to come.");
  const ticks = preview.ticks.map((at, index) => ({ at, there: preview.local[index] ?? "" }));
  const zone = cron.schedule?.tz ?? "UTC";
  return table("Next ticks", [
    { title: "", class: "when", cell: (tick) => moment(tick.at) },
    zone === "UTC" ? null : { title: zone, class: "when", cell: (tick) => tick.there.replace("T", " ").replace(/([+-]\d\d:\d\d)$/, " $1") },
    { title: "UTC", class: "when", cell: (tick) => utc(tick.at).slice(0, 19) },
  ].filter(Boolean), ticks);
}

function rules(cron) {
  const pairs = [
    ["Schedule", rule(cron.schedule)], ["Function", h("a", { href: link("jobs", { function: cron.path }), title: "The jobs of this function" }, shown(cron.path))], ["Policy", policy(cron)],
    cron.missed_tick_policy === "all" ? ["Caught up", `at most ${cron.max_catch_up_ticks} ticks${cron.max_catch_up_age_seconds === null ? "" : `, not older than ${span(Number(cron.max_catch_up_age_seconds))}`}`] : null,
    Number(cron.jitter_seconds) ? ["Jitter", `up to ${span(Number(cron.jitter_seconds))}`] : null,
    ["Clock", String(cron.clock)], ["Defined", String(cron.origin)], ["Settled up to", moment(cron.accounted_to)],
    ["Arguments", cron.hidden ? h("span", { class: "dim" }, "not shown to the read role") : h("pre", { class: "json", tabindex: "0", "aria-label": "Arguments", id: "args-json" }, pretty(cron.args))],
  ];
  return h("dl", { class: "facts" }, pairs.filter(Boolean).map(([title, value]) => h("div", {}, h("dt", {}, title), h("dd", {}, value))));
}

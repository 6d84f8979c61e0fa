// All crons: when each fires next, by what rule, how its last runs went; and the versions of their definitions.

import { get, post } from "./api.js";
import { h, link, put, roving, shown } from "./dom.js";
import { moment, span } from "./times.js";
import { ask, attempt, badge, button, card, cronLink, empty, heading, runCells, table } from "./widgets.js";

const PAGE = 50;
const STRIP = 24;

export const rule = (schedule) => {
  if (!schedule) return h("span", { class: "dim" }, "by clocks outside");
  if (schedule.cron !== undefined) return h("span", {}, h("code", {}, shown(schedule.cron)), h("span", { class: "dim" }, ` ${schedule.tz ?? "UTC"}`));
  return h("span", {}, `every ${span(schedule.every_seconds)}`);
};

export const policy = (cron) => `missed: ${cron.missed_tick_policy}, overlap: ${cron.overlap}`;

export const stateOf = (cron) => [
  cron.paused ? badge("paused") : null, cron.trouble ? badge("trouble") : null, cron.enabled ? null : h("span", { class: "badge" }, "disabled"),
];

export async function pause(cron, after) {
  const given = await ask("Pause this cron", "Nothing of it starts until it is resumed. What it misses is treated by its policy.", { yes: "Pause", fields: [{ name: "note", label: "Note (who and why)", most: 500 }] });
  if (!given) return;
  await attempt(() => post("admin/cron/pause", { name: cron.name, ...(given.note ? { note: given.note } : {}) }), "Paused.");
  after();
}

export const cronButtons = (cron, me, after) => (me.role !== "operate" ? [] : [
  button("Run now", async () => {
    if (!(await ask(`Run ${cron.name} now`.slice(0, 300), "It runs once, by hand. Its next ticks stay as they are.", { yes: "Run now" }))) return;
    await attempt(() => post("admin/cron/run", { name: cron.name }), "It runs now.");
    after();
  }, { label: `Run ${cron.name} now`.slice(0, 300) }),
  cron.paused
    ? button("Resume", async () => { await attempt(() => post("admin/cron/resume", { name: cron.name }), "Resumed."); after(); }, { label: `Resume ${cron.name}`.slice(0, 300) })
    : button("Pause", () => pause(cron, after), { label: `Pause ${cron.name}`.slice(0, 300) }),
]);

export async function strip(box, name, signal, limit = STRIP) {
  const runs = await get("admin/cron/runs", { name, limit }, { signal });
  const text = JSON.stringify(runs.items);
  if (box.contains(document.activeElement) || box.known === text) return runs;
  box.known = text;
  if (!runs.items.length) put(box, h("span", { class: "dim small" }, "no runs kept"));
  else roving(put(box, runCells(runs.items)), ".cell", { last: true });
  return runs;
}

let update = null;
export { updateParams as update };
const updateParams = (params) => update?.(params);

export async function show(main, { me, params: given, signal, refresh }) {
  let params = given;
  const holder = h("div", {}, empty("…"));
  const pager = h("div", { class: "pager" });
  const versions = h("div", {});
  const note = h("span", { class: "note" });
  const search = h("form", { class: "filters", role: "search", "aria-label": "Find crons" },
    h("label", { class: "field" }, "Name begins with", h("input", { id: "search", type: "search", name: "prefix", value: params.prefix ?? "", maxlength: "200", autocomplete: "off", spellcheck: "false" })),
    h("button", { type: "submit" }, "Find"));
  search.addEventListener("submit", (event) => { event.preventDefault(); location.hash = link("crons", { prefix: search.elements.prefix.value }); });
  put(main, heading("Crons", note), search, holder, pager, versions);

  const strips = new Map();
  const seen = new IntersectionObserver((entries) => entries.forEach((entry) => {
    entry.target.visible = entry.isIntersecting;
    if (entry.isIntersecting && !entry.target.known) strip(entry.target, entry.target.cron, signal).catch(() => {});
  }), { rootMargin: "100px" });
  signal.addEventListener("abort", () => seen.disconnect());
  const stripOf = (cron) => {
    let box = strips.get(cron.name);
    if (!box) {
      box = h("div", { class: "strip", role: "group", "aria-label": `Last runs of ${cron.name}`.slice(0, 300) });
      box.cron = cron.name;
      strips.set(cron.name, box);
      seen.observe(box);
    }
    return box;
  };
  let soon = () => {};
  const columns = [
    { title: "Name", class: "wide", cell: (cron) => [cronLink(cron.name), " ", stateOf(cron), cron.note ? h("div", { class: "small dim" }, shown(cron.note, { most: 160 })) : null, cron.trouble ? h("div", { class: "small bad-text" }, shown(cron.trouble, { most: 200 })) : null] },
    { title: "Schedule", class: "rule", cell: (cron) => [h("div", {}, rule(cron.schedule)), h("div", { class: "small dim" }, policy(cron))] },
    { title: "Next", class: "when", cell: (cron) => (cron.paused ? h("span", { class: "dim" }, "paused") : moment(cron.next_at)) },
    { title: "Last runs", class: "runs", cell: stripOf },
    me.role === "operate" ? { title: "", class: "acts", cell: (cron) => h("span", { class: "actions" }, cronButtons(cron, me, () => soon(true))) } : null,
  ].filter(Boolean);
  const list = table("Crons", columns, [], { kind: "crons" });
  let known = "";
  const load = async () => {
    const found = await get("admin/crons", { prefix: params.prefix, cursor: params.cursor, limit: PAGE }, { signal });
    const text = JSON.stringify(found);
    // Their names do not move: by name. What stands in a row may change while the pointer is elsewhere.
    if (text !== known && !(known && holder.contains(document.activeElement))) {
      known = text;
      put(holder, found.items.length ? list.fill(found.items) : empty(params.prefix ? "No cron has a name that begins with this." : "There are no crons."));
      put(pager, params.cursor ? h("a", { class: "step", href: link("crons", { prefix: params.prefix }) }, "« First") : null,
        found.next_cursor ? h("a", { class: "step", href: link("crons", { prefix: params.prefix, cursor: found.next_cursor }) }, "More »") : null);
    }
    await Promise.all([...strips.values()].filter((box) => box.visible && box.known).map((box) => strip(box, box.cron, signal)));
  };
  const soonLoad = refresh(load, { every: 20000, least: 2500 });
  soon = (now) => { if (now) { known = ""; document.activeElement?.blur(); } soonLoad(now); };
  const showVersions = () => manifests(versions, me, signal, () => { soon(true); showVersions(); });
  showVersions();
  update = (next) => {
    params = next;
    known = "";
    search.elements.prefix.value = params.prefix ?? "";
    soonLoad(true);
  };
}

// ---------------------------------------------------------------- versions of the definitions

async function manifests(box, me, signal, after) {
  const found = await get("admin/cron/manifests", { limit: 10 }, { signal }).catch(() => ({ items: [] }));
  if (signal.aborted || !found.items.length) { put(box); return; }
  const active = found.items.find((each) => each.state === "active");
  const activate = (each) => async () => {
    const { words } = difference(each, active);
    if (!(await ask(`Activate version ${each.version}`, [words, "Crons whose schedule changes are reckoned anew from now; those that are gone stop."], { yes: "Activate" }))) return;
    await attempt(() => post("admin/cron/manifests/activate", { version: each.version }),
      (diff) => `Version ${each.version} holds: ${diff.added.length} added, ${diff.updated.length} updated, ${diff.deleted.length} deleted, ${diff.unchanged.length} unchanged.`);
    after();
  };
  put(box, card("Versions of the definitions", { id: "versions" }, table("Versions", [
    { title: "Version", class: "num", cell: (each) => String(each.version) },
    { title: "State", class: "state", cell: (each) => h("span", { class: `badge v-${each.state}` }, each.state) },
    { title: "Staged", class: "when", cell: (each) => moment(each.staged_at) },
    { title: "Activated", class: "when", cell: (each) => moment(each.activated_at) },
    { title: "Crons", class: "wide", cell: (each) => (each === active ? `${each.crons.length} crons` : changes(each, active)) },
    me.role === "operate" ? { title: "", class: "acts", cell: (each) => (each.state === "staged" ? button("Activate…", activate(each), { kind: "main" }) : null) } : null,
  ].filter(Boolean), found.items)));
}

function difference(each, active) {
  if (each.diff) {
    const { added, updated, deleted, unchanged } = each.diff;
    return { added, deleted, updated, words: `${added.length} added, ${updated.length} updated, ${deleted.length} deleted, ${unchanged.length} unchanged.` };
  }
  const before = new Set(active?.crons ?? []);
  const names = new Set(each.crons);
  const added = each.crons.filter((name) => !before.has(name));
  const deleted = [...before].filter((name) => !names.has(name));
  return { added, deleted, updated: [], words: `By name: ${added.length} added, ${deleted.length} deleted, ${each.crons.length - added.length} kept or updated.` };
}

function changes(each, active) {
  if (each.state === "retired" && !each.diff) return `${each.crons.length} crons`;
  const found = difference(each, active);
  const names = (sign, word, list) => (list.length ? h("div", { class: `diff d-${word}` }, `${sign} ${word}: `, list.slice(0, 20).map((name, at) => [at ? ", " : "", shown(name, { most: 80 })]), list.length > 20 ? ` and ${list.length - 20} more` : null) : null);
  return [h("div", {}, found.words), names("+", "added", found.added), names("~", "updated", found.updated), names("−", "deleted", found.deleted)];
}


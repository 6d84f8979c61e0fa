// All jobs, newest first, by what is asked for. The filters stand in the address: it can be shared, and the browser's
// back button goes back through them.

import { get, jobPath, post } from "./api.js";
import { h, link, put, say, shown } from "./dom.js";
import { live } from "./live.js";
import { count } from "./times.js";
import { ask, attempt, badge, button, cronLink, dueOf, empty, functionLink, heading, table, why } from "./widgets.js";

const PAGE = 100;
const PAGE_NARROW = 25; // as cards, each is five times as tall
const STATES = ["", "pending", "in_progress", "success", "failed", "canceled"];
const FILTERS = ["state", "function", "key", "cron", "cause", "text"];
const NARROW = matchMedia("(max-width: 640px)"); // as in parts.css
const pageSize = () => (NARROW.matches ? PAGE_NARROW : PAGE);

const jobs = (number) => `${count(number)} ${number === 1 ? "job" : "jobs"}`;

// What can be done to many: `all` and `these(number)` say it, `none` says that there is nothing to do it to.
const DEEDS = {
  retry: { all: "Run all again…", some: "Run again", these: (what) => `Run ${what} again`, none: "None of these jobs has failed: there is nothing to run again." },
  cancel: { all: "Cancel all…", some: "Cancel", these: (what) => `Cancel ${what}`, none: "All of these jobs have started or ended: there is nothing to cancel." },
  drop: { all: "Drop all…", some: "Drop", these: (what) => `Drop ${what}`, none: "None of these jobs has ended: there is nothing to drop." },
};
const HISTORY = "Runs of crons among them go from their cron's history, too.";

let update = null; // of the page that is shown

export const show = async (main, context) => { update = await page(main, context); };
export const updateParams = (params) => update?.(params);
export { updateParams as update };

async function page(main, { me, params: given, signal }) {
  let params = given;
  let rows = [];
  const chosen = new Set();
  const fresh = new Set();
  const operates = me.role === "operate";

  const form = filters(() => params, me, signal);
  const amount = h("span", { class: "dim", role: "status" });
  const note = h("span", { class: "note" });
  const bar = h("div", { class: "chosen", role: "region", "aria-label": "The chosen jobs", hidden: true });
  const holder = h("div", {});
  const pager = h("div", { class: "pager" });
  const columns = [
    operates ? { class: "pick", head: pickAll(), cell: pickOne } : null,
    { title: "State", class: "state", cell: (job) => badge(job.state) },
    { title: "Function", class: "wide", cell: (job) => [functionLink(job), job.cron ? h("span", { class: "of" }, "of ", cronLink(job.cron)) : null, why(job)] },
    { title: "When", class: "when", cell: dueOf },
    { title: "Key", class: "key", cell: (job) => (job.key === null ? null : shown(job.key, { most: 60 })) },
    { title: "Attempt", class: "num attempt", cell: (job) => String(job.attempt) },
  ].filter(Boolean);
  const list = table("Jobs", columns, [], { onRow: (job) => { location.hash = link(`jobs/${encodeURIComponent(job.id)}`); } });
  put(main, heading("Jobs", amount, note), form.node, operates ? all() : null, bar, holder, pager);

  // ------------------------------------------------------------ choosing

  function pickAll() {
    return h("input", { type: "checkbox", "aria-label": "Choose all on this page", on: { change: (event) => {
      rows.forEach((job) => (event.target.checked ? chosen.add(job.id) : chosen.delete(job.id)));
      for (const box of holder.querySelectorAll("tbody input")) box.checked = event.target.checked;
      mark();
    } } });
  }

  function pickOne(job) {
    return h("input", { type: "checkbox", "aria-label": `Choose ${job.path} ${job.id}`.slice(0, 200), checked: chosen.has(job.id), on: { change: (event) => {
      if (event.target.checked) chosen.add(job.id);
      else chosen.delete(job.id);
      mark();
    } } });
  }

  function mark() {
    bar.hidden = !chosen.size;
    put(bar, h("strong", {}, `${chosen.size} chosen`),
      Object.entries(DEEDS).map(([name, { some }]) => button(some, () => doEach(name), { kind: name === "retry" ? "" : "danger" })),
      button("None", () => { chosen.clear(); for (const box of holder.querySelectorAll("input")) box.checked = false; mark(); }, { kind: "quiet" }));
  }

  async function doEach(name) {
    const ids = [...chosen];
    const title = DEEDS[name].these(jobs(ids.length));
    const about = ["Jobs whose state does not allow it are left as they are.", ...(name === "drop" ? [HISTORY] : [])];
    if (!(await ask(title, about, { yes: title, danger: name !== "retry" }))) return;
    let changed = 0;
    await attempt(async () => {
      for (const id of ids) changed += (await post(jobPath(id, name))).changed ? 1 : 0;
    });
    say(`${DEEDS[name].some}: ${changed} of ${jobs(ids.length)} changed.`);
    chosen.clear();
    mark();
    await load();
  }

  // ------------------------------------------------------------ everything that matches

  function all() {
    return h("details", { class: "all" }, h("summary", {}, "Change all that match"),
      h("div", { class: "actions" }, Object.entries(DEEDS).map(([name, deed]) => button(deed.all, () => doAll(name), { kind: name === "retry" ? "" : "danger" }))));
  }

  // Ask with the number of jobs. When more of them match by the time of the answer, nothing was changed: the new number
  // is said, and to go on is one click again.
  async function doAll(action) {
    const filter = Object.fromEntries(FILTERS.map((name) => [name, params[name] ?? ""]).filter(([, value]) => value !== ""));
    const which = Object.entries(filter).map(([name, value]) => `${name} = ${value}`).join(", ") || "no filter: all jobs";
    const deed = DEEDS[action];
    const bulk = (confirm = {}) => post("admin/jobs/bulk", { action, filter, ...confirm });
    const stale = (error) => {
      if (error.code !== "CONFIRMATION_STALE") throw error;
      return { stale: true };
    };
    let before = null;
    for (;;) {
      const asked = await attempt(() => bulk());
      if (!asked) return;
      if (!asked.count) {
        say(deed.none, "bad");
        break;
      }
      const title = deed.these(jobs(asked.count));
      const about = [`This changes ${jobs(asked.count)} that match: ${which}.`, ...(action === "drop" ? [HISTORY] : []), "It can't be undone."];
      if (before !== null) about.unshift(asked.count > before ? `There are more by now: ${count(asked.count)}, not ${count(before)}. Nothing was changed.` : "The confirmation did not hold any more. Nothing was changed.");
      if (!(await ask(title, about, { yes: title, danger: true }))) return;
      const done = await attempt(() => bulk({ confirm: asked.confirm }).catch(stale), (answer) => (answer.stale ? "" : `${deed.some}: ${jobs(answer.changed)} changed.`));
      if (!done) return;
      if (!done.stale) break;
      before = asked.count;
    }
    await load();
  }

  // ------------------------------------------------------------ loading

  let turn = 0;
  async function load() {
    const mine = ++turn;
    const wanted = Object.fromEntries(FILTERS.map((name) => [name, params[name] ?? ""]));
    holder.setAttribute("aria-busy", "true");
    try {
      const found = await get("admin/jobs", { ...wanted, limit: pageSize(), cursor: params.cursor }, { signal });
      if (mine !== turn) return;
      rows = found.items;
      fresh.clear();
      put(note);
      chosen.clear();
      mark();
      put(holder, rows.length ? list.fill(rows) : empty(found.next_cursor ? "Nothing on this page: the search goes on with the next one." : "No job matches."));
      put(pager, params.cursor ? h("a", { href: link("jobs", { ...params, cursor: "" }), class: "step" }, "« Newest") : null,
        found.next_cursor ? h("a", { href: link("jobs", { ...params, cursor: found.next_cursor }), class: "step" }, params.text ? "Search on »" : "Older »") : null);
    } catch (error) {
      if (error.name !== "AbortError" && mine === turn && !error.ended) put(holder, h("p", { class: "notice bad", role: "alert" }, shown(error.told ?? String(error), { tag: "span" })));
    }
    holder.removeAttribute("aria-busy");
    get("admin/jobs/count", wanted, { signal })
      .then((answer) => { if (mine === turn) put(amount, `${answer.complete ? "" : "at least "}${count(answer.count)} jobs`); })
      .catch(() => { if (mine === turn) put(amount); });
  }

  // Rows stay where they are: a job that is shown changes in its place, a new one is counted.
  live.addEventListener("job", ({ detail: job }) => {
    const at = rows.findIndex((row) => row.id === job.id);
    if (at >= 0) {
      rows[at] = { ...rows[at], state: job.state, attempt: job.attempt, cause: job.cause, error: job.error, ...(job.state === "in_progress" ? { started_at: job.at } : job.state === "pending" ? {} : { completed_at: job.at }) };
      const row = holder.querySelector(`tr[data-id="${CSS.escape(job.id)}"]`);
      if (row && !row.contains(document.activeElement)) list.replaceRow(job.id, rows[at]);
    } else if (!params.cursor && (!params.state || params.state === job.state)) {
      fresh.add(job.id);
      tellFresh();
    }
  }, { signal });
  live.addEventListener("changed", (event) => {
    if (!event.detail.has("jobs") || params.cursor || fresh.size) return;
    put(note, button("Show what is new", load, { kind: "quiet" }));
  }, { signal });

  function tellFresh() {
    if (!note.firstElementChild) put(note, button("", load, { kind: "quiet" }));
    note.firstElementChild.textContent = `${fresh.size}${fresh.size >= 100 ? " or more" : ""} new: show`;
  }

  await load();
  return async (next) => {
    params = next;
    form.sync();
    await load();
    scrollTo(0, 0);
  };
}

function filters(now, me, signal) {
  const field = (name, label, props = {}) => h("label", { class: `field f-${name}` }, label, h("input", { name, type: "text", value: now()[name] ?? "", autocomplete: "off", spellcheck: "false", maxlength: "300", ...props }));
  const node = h("form", { class: "filters", role: "search", "aria-label": "Filter jobs" },
    h("label", { class: "field f-state" }, "State", h("select", { name: "state" }, STATES.map((state) =>
      h("option", { value: state, selected: state === (now().state ?? "") }, state === "" ? "any" : state === "in_progress" ? "running" : state)))),
    field("function", "Function", { list: "functions", placeholder: "namespace:function", id: me.role === "operate" ? null : "search" }),
    field("key", "Key"), field("cron", "Cron"),
    // A search looks into arguments, which the read role may not see.
    me.role === "operate" ? field("text", "Text", { type: "search", id: "search", placeholder: "in arguments, errors ( / )" }) : null,
    h("datalist", { id: "functions" }),
    h("button", { type: "submit" }, "Filter"),
    h("a", { href: "#/jobs", class: "clear" }, "Clear"));
  get("admin/functions", {}, { signal })
    .then((found) => put(node.querySelector("datalist"), found.items.map((each) => h("option", { value: each.path }))))
    .catch(() => {});
  const use = () => {
    const wanted = Object.fromEntries(FILTERS.map((name) => [name, node.elements[name]?.value ?? now()[name] ?? ""]));
    location.hash = link("jobs", wanted);
  };
  node.addEventListener("submit", (event) => { event.preventDefault(); use(); });
  node.elements.state.addEventListener("change", use); // text waits for Enter: leaving a field must not move the rows
  return { node, sync() {
    for (const name of FILTERS) {
      const input = node.elements[name];
      if (input && input.value !== (now()[name] ?? "")) input.value = now()[name] ?? "";
    }
  } };
}

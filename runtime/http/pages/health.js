// Whether the app is well: readiness, times, the file, what an examination of it finds; pausing all, and a backup.

import { get, post } from "./api.js";
import { h, link, morph, put, say, shown } from "./dom.js";
import { bytes, count, local, moment, setNow, span } from "./times.js";
import { ask, attempt, button, card, empty, heading, table } from "./widgets.js";

export async function show(main, { me, signal, refresh }) {
  const banner = h("div", {});
  const state = h("dl", { class: "facts" });
  const times = h("dl", { class: "facts" });
  const file = h("dl", { class: "facts" });
  const doctor = h("div", { "aria-live": "polite" }, empty("…"));
  const trail = h("div", {});
  const acts = h("span", { class: "actions" });
  const operates = me.role === "operate";
  const again = button("Examine again", () => examine(doctor, signal));
  put(main, heading("Health", acts), banner,
    h("div", { class: "grid three" }, card("App", { id: "app-state" }, state), card("Times", { id: "latency" }, times),
      card("File", { id: "file" }, file, operates ? h("div", { class: "actions" }, button("Download a backup", () => backup(signal))) : null)),
    card("Examination of the file", { id: "doctor", beside: again }, doctor),
    operates ? card("Who did what", { id: "audit" }, trail) : null);
  examine(doctor, signal);
  let soon = () => {};
  let paused = null;
  soon = refresh(async () => {
    const [stats, deeds] = await Promise.all([get("admin/stats", {}, { signal }), operates ? get("admin/audit", { limit: 50 }, { signal }) : null]);
    setNow(stats.now);
    morph(banner, stats.paused !== null ? h("p", { class: "notice warn" }, h("strong", {}, "Everything is paused: no job starts. "), shown(stats.paused, { tag: "span" })) : null);
    if (operates && paused !== (stats.paused !== null)) {
      paused = stats.paused !== null;
      put(acts, paused ? button("Resume everything", resume(() => soon(true)), { kind: "main" }) : button("Pause everything…", pause(() => soon(true)), { kind: "danger" }));
    }
    morph(state, pairs([
      ["Ready", stats.ready ? "✓ yes" : ["✕ no: ", shown(stats.unready_reason ?? "", { tag: "span" })]], ["Version", stats.version], ["Started", moment(stats.started_at)],
      ["Up for", span(Math.floor(stats.uptime_seconds))], ["Pages listening", count(stats.listeners)],
      ["Crons", `${count(stats.crons.total)}, ${count(stats.crons.paused)} paused, ${count(stats.crons.troubled)} in trouble`],
    ]));
    const lag = stats.latency;
    morph(times, pairs([
      ["Oldest due for", span(stats.lag_seconds)], ["Start lag, half of them", span(lag.start_lag_p50_seconds)], ["Start lag, 99 %", span(lag.start_lag_p99_seconds)],
      ["Commit, half of them", span(lag.commit_p50_seconds)], ["Commit, 99 %", span(lag.commit_p99_seconds)],
      ["Changes a commit", lag.batch_mean === null ? "–" : lag.batch_mean.toFixed(1)], ["Event loop's lag", span(lag.loop_lag_seconds)],
    ]));
    morph(file, pairs([
      ["Database", bytes(stats.database.bytes)], ["Write-ahead log", bytes(stats.database.wal_bytes)], ["Free on the disk", bytes(stats.database.disk_free_bytes)],
      ["Jobs pending", count(stats.jobs.pending)], ["Jobs failed", stats.jobs.failed ? h("a", { href: link("jobs", { state: "failed" }) }, count(stats.jobs.failed)) : "0"], ["Jobs ended", count(stats.jobs.ended)],
    ]));
    if (deeds && !trail.contains(document.activeElement)) put(trail, deeds.items.length ? audit(deeds.items) : empty("Nothing was changed since the start."));
  }, { every: 5000, least: 2000 });
}

const pairs = (list) => list.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)));

const pause = (after) => async () => {
  const given = await ask("Pause everything", "No job starts any more, after a restart neither, until it is resumed. What runs goes on.", { yes: "Pause everything", danger: true, fields: [{ name: "note", label: "Note (who and why)", most: 500 }] });
  if (!given) return;
  await attempt(() => post("admin/pause", given.note ? { note: given.note } : {}), "Everything is paused.");
  after();
};

const resume = (after) => async () => {
  await attempt(() => post("admin/resume"), "Jobs start again.");
  after();
};

async function examine(box, signal) {
  put(box, empty("Examining…"));
  try {
    const found = await get("admin/doctor", {}, { signal });
    put(box,
      h("p", { class: found.ok ? "good-text" : "bad-text" }, found.ok ? "✓ The file is sound." : "✕ The file has problems."),
      found.problems.length ? h("ul", { class: "findings" }, found.problems.map((each) => h("li", { class: `g-${each.gravity}` }, h("strong", {}, String(each.gravity)), " ", shown(each.text, { tag: "span" }), each.advice ? h("div", { class: "dim" }, shown(each.advice, { tag: "span" })) : null, /^\d+ jobs? failed/.test(each.text) ? h("p", {}, h("a", { href: link("jobs", { state: "failed" }) }, "Show the failed jobs")) : null))) : null,
      h("details", {}, h("summary", {}, "Facts"), h("dl", { class: "facts" }, pairs(Object.entries(found.facts).map(([name, value]) => [name, shown(typeof value === "object" ? JSON.stringify(value) : value, { most: 500 })])))));
  } catch (error) {
    if (error.name !== "AbortError" && !error.ended) put(box, h("p", { class: "notice bad" }, shown(error.told ?? String(error), { tag: "span" })));
  }
}

const audit = (deeds) => table("Who did what", [
  { title: "When", class: "when", cell: (deed) => moment(deed.at) },
  { title: "Key", class: "key", cell: (deed) => shown(deed.who, { most: 40 }) },
  { title: "From", class: "key", cell: (deed) => shown(`${deed.peer} (${deed.via})`, { most: 60 }) },
  { title: "What", class: "wide", cell: (deed) => [shown(deed.action, { most: 60, tag: "strong" }), " ", shown(deed.target, { most: 200 })] },
  { title: "Result", class: "key", cell: (deed) => shown(deed.result, { most: 120 }) },
], deeds);

async function backup(signal) {
  say("The copy is being made and checked.");
  try {
    const response = await post("admin/backup", {}, { raw: true, signal });
    const url = URL.createObjectURL(await response.blob());
    const a = document.createElement("a");
    a.href = url;
    a.download = `backup-${local(new Date().toISOString()).replace(/\D+/g, "-")}.db`;
    a.click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
    say(`The backup is whole. SHA-256: ${response.headers.get("X-Content-Sha256")}`);
  } catch (error) {
    if (error.name !== "AbortError" && !error.ended) say(error.told ?? String(error), "bad");
  }
}

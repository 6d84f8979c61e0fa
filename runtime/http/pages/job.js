// One job: what it was asked to do, how it went, and what can be done about it.

import { get, jobPath, pretty } from "./api.js";
import { h, link, put, s, say, shown } from "./dom.js";
import { live } from "./live.js";
import { local, moment, ms, now, span, utc } from "./times.js";
import { badge, button, card, cronLink, heading, jobButtons, table } from "./widgets.js";

export async function show(main, { me, params, signal, refresh }) {
  const box = h("div", {});
  put(main, box);
  let known = "";
  let soon = () => {};
  let first = null;
  const loaded = new Promise((resolve) => { first = resolve; });
  const load = async () => {
    try {
      const job = await get(jobPath(params.id), {}, { signal, exact: true });
      const text = JSON.stringify(job);
      if (text === known) return;
      known = text;
      const within = box.contains(document.activeElement);
      put(box, whole(job, me, () => soon(true)));
      if (within) box.querySelector("h1").focus({ preventScroll: true });
    } catch (error) {
      if (error.status !== 404) throw error;
      put(box, heading("There is no such job"), h("p", {}, "It was pruned, or its id is wrong. ", h("a", { href: "#/jobs" }, "All jobs")));
    } finally {
      first();
    }
  };
  soon = refresh(load, { what: ["settings"], every: 10000 });
  live.addEventListener("job", ({ detail }) => { if (detail.id === params.id) soon(); }, { signal });
  live.addEventListener("changed", ({ detail }) => { if (detail.has("jobs")) soon(); }, { signal });
  await loaded;
}

function whole(job, me, after) {
  const parts = [
    h("p", { class: "crumbs" }, h("a", { href: "#/jobs" }, "Jobs"), " / ", h("code", {}, shown(job.id))),
    heading(shown(job.path, { most: 200 }), badge(job.state, job.cause ?? ""), h("span", { class: "actions" }, jobButtons(job, me, after),
      button("Copy id", async () => {
        try {
          await navigator.clipboard.writeText(job.id);
          say("Copied.");
        } catch {
          say("The browser does not let the page copy.", "bad");
        }
      }, { kind: "quiet" }))),
  ];
  if (job.error) {
    parts.push(card("Error", { id: "error" },
      h("p", { class: "error" }, job.error_code ? h("code", { class: "code" }, shown(job.error_code, { most: 200 })) : null, " ", shown(job.error, { tag: "span", className: "pre" })),
      job.error_data === null ? null : h("pre", { class: "json", tabindex: "0", "aria-label": "Error data" }, pretty(job.error_data)),
      job.traceback ? h("details", { open: true }, h("summary", {}, "Traceback"), h("pre", { tabindex: "0", "aria-label": "Traceback" }, shown(job.traceback, { tag: "span" }))) : null));
  }
  parts.push(h("div", { class: "grid" },
    card("Times", { id: "times" }, course(job), facts(times(job))),
    card("About", { id: "about" }, facts(about(job)))));
  parts.push(h("div", { class: "grid" }, values("Arguments", "args", job), values("Result", "result", job)));
  if (job.attempts.length) {
    parts.push(card("Failed attempts", { id: "attempts" }, table("Failed attempts", [
      { title: "Attempt", class: "num", cell: (each) => String(each.attempt) },
      { title: "Started", class: "when", cell: (each) => moment(each.started_at) },
      { title: "Took", class: "num", cell: (each) => took(each.started_at, each.ended_at) },
      { title: "Cause", cell: (each) => each.cause },
      { title: "Error", class: "wide", cell: (each) => (each.error ? shown(each.error, { most: 2000 }) : "–") },
    ], job.attempts)));
  }
  return parts;
}

function values(title, name, job) {
  let body;
  if (job.hidden) body = h("p", { class: "empty" }, `${title} are not shown to the read role.`.replace("Result are", "The result is"));
  else if (name === "args" && job.args_error) body = h("p", { class: "notice warn" }, shown(`They can't be read: ${job.args_error}`, { tag: "span" }));
  else if (name === "result" && job.state !== "success") body = h("p", { class: "empty" }, "There is none: it has not succeeded.");
  else body = h("pre", { class: "json", tabindex: "0", "aria-label": title, id: `${name}-json` }, pretty(job[name]));
  return card(title, { id: name, note: name === "result" && job.result_truncated ? h("span", { class: "note" }, "cut: it was too large to be kept whole") : null }, body);
}

const facts = (pairs) => h("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));

const took = (from, to) => (from && to ? span((ms(to) - ms(from)) / 1000) : "–");

function exactly(iso, more = null) {
  return iso ? h("time", { datetime: iso, title: utc(iso) }, local(iso), h("span", { class: "dim" }, `.${iso.slice(20, 23)} · `), h("span", { class: "dim", "data-relative": iso }), more) : "–";
}

function times(job) {
  const lag = job.started_at && job.fire_at ? span((ms(job.started_at) - ms(job.fire_at)) / 1000) : null;
  return [
    ["Created", exactly(job.created_at)], ["Asked for", exactly(job.scheduled_at)],
    job.fire_at !== job.scheduled_at ? ["Due", exactly(job.fire_at)] : null,
    ["Started", exactly(job.started_at)], ["Ended", exactly(job.completed_at)],
    lag && job.attempt <= 1 ? ["Lag", lag] : null, job.started_at && job.completed_at ? ["Took", took(job.started_at, job.completed_at)] : null,
  ];
}

function about(job) {
  const text = (value) => (value === null ? null : shown(value, { tag: "code" }));
  return [
    ["Kind", job.kind ?? "–"], ["Attempt", String(job.attempt)],
    job.key !== null ? ["Key", text(job.key)] : null, job.idempotency_key !== null ? ["Idempotency key", text(job.idempotency_key)] : null,
    job.cron !== null ? ["Cron", cronLink(job.cron)] : null, job.lane !== null ? ["Lane", text(job.lane)] : null,
    ["Priority", String(job.priority)],
    job.parent_id !== null ? ["Scheduled by", h("a", { href: link(`jobs/${encodeURIComponent(job.parent_id)}`) }, shown(job.parent_id))] : null,
    job.occurrence_id !== null ? ["Occurrence", text(job.occurrence_id)] : null,
  ];
}

// Created, due, started, ended, to scale: what took the time.
function course(job) {
  const points = [["created", job.created_at], ["due", job.fire_at ?? job.scheduled_at], ["started", job.started_at], ["ended", job.completed_at]]
    .filter(([, iso]) => iso).map(([name, iso]) => ({ name, at: ms(iso) })).sort((a, b) => a.at - b.at);
  if (points.length < 2) return null;
  const end = Math.max(points.at(-1).at, job.state === "in_progress" ? now() : 0);
  const [start] = [points[0].at];
  const place = (at) => `${(1.5 + ((at - start) / Math.max(1, end - start)) * 97).toFixed(2)}%`;
  const at = (name) => points.find((point) => point.name === name)?.at;
  const stretch = (kind, from, to) => (from !== undefined && to !== undefined && to > from
    ? s("line", { class: `stretch ${kind}`, x1: place(from), x2: place(to), y1: 16, y2: 16 }) : null);
  const said = points.map((point) => `${point.name} ${local(new Date(point.at).toISOString())}`).join(", ");
  return s("svg", { class: "chart course", height: 32, role: "img", "aria-label": said },
    stretch("waits", start, end), stretch("late", at("due"), at("started")), stretch("runs", at("started"), at("ended") ?? (job.state === "in_progress" ? end : undefined)),
    points.map((point) => s("circle", { class: `point ${point.name}`, cx: place(point.at), cy: 16, r: 5 }, s("title", {}, point.name))));
}

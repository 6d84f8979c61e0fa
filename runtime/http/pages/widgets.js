// Parts that several pages are made of.

import { Failed, jobPath, post } from "./api.js";
import { h, link, put, say, shown, tip } from "./dom.js";
import { moment } from "./times.js";

const STATES = {
  pending: ["○", "pending"], in_progress: ["◐", "running"], success: ["✓", "success"], failed: ["✕", "failed"],
  canceled: ["–", "canceled"], skipped: ["↷", "skipped"], paused: ["||", "paused"], trouble: ["!", "trouble"],
};

export const glyph = (state) => (STATES[state] ?? ["?"])[0];

// A state: a sign, a word and a colour; each of them is enough.
export function badge(state, extra = "") {
  const [sign, word] = STATES[state] ?? ["?", String(state)];
  return h("span", { class: `badge s-${STATES[state] ? state : "unknown"}` },
    h("span", { class: "sign", "aria-hidden": "true" }, sign), word, extra ? h("span", { class: "dim" }, ` ${extra}`) : null);
}

export const heading = (title, ...beside) => h("div", { class: "head" }, h("h1", { tabindex: "-1" }, title), ...beside);

export function card(title, { id, note, beside = [] } = {}, ...children) {
  return h("section", { class: "card", "aria-labelledby": id },
    h("div", { class: "card-head" }, h("h2", { id }, title), note ?? null, ...[beside].flat()), ...children);
}

// A button. While what it does is under way it does nothing else: a double click acts once. It keeps the focus meanwhile.
export function button(text, act, { kind = "", label = null } = {}) {
  const node = h("button", { type: "button", class: kind || null, "aria-label": label }, text);
  node.addEventListener("click", async (event) => {
    if (node.ariaDisabled === "true") return;
    node.setAttribute("aria-disabled", "true");
    try {
      await act(event);
    } finally {
      node.removeAttribute("aria-disabled");
    }
  });
  return node;
}

export const empty = (text) => h("p", { class: "empty" }, text);

// A table that becomes cards on a phone: roles are said, since the style takes the table's own away.
export function table(label, columns, rows, { onRow, kind = null } = {}) {
  const head = h("tr", { role: "row" }, columns.map((column) =>
    h("th", { role: "columnheader", scope: "col", class: column.class ?? null }, column.head ?? column.title ?? "")));
  const body = h("tbody", { role: "rowgroup" });
  const node = h("table", { role: "table", class: kind, "aria-label": label },
    h("thead", { role: "rowgroup" }, head), body);
  const line = (row) => {
    const made = h("tr", { role: "row", "data-id": row.id ?? null }, columns.map((column) =>
      h("td", { role: "cell", class: column.class ?? null, "data-label": column.title ?? null }, column.cell(row))));
    if (onRow) {
      made.addEventListener("click", (event) => {
        if (!event.target.closest("a, button, input, label") && String(getSelection()) === "") onRow(row);
      });
      made.classList.add("opens");
    }
    return made;
  };
  node.fill = (items) => { put(body, items.map(line)); return node; };
  node.replaceRow = (id, row) => {
    const old = [...body.children].find((each) => each.dataset.id === id);
    if (old) old.replaceWith(line(row));
  };
  return node.fill(rows);
}

export const functionLink = (job) =>
  h("a", { href: link(`jobs/${encodeURIComponent(job.id)}`), class: "path" }, shown(job.path, { most: 120 }));

export const cronLink = (name) => h("a", { href: link("crons", { name }), class: "path" }, shown(name, { most: 120 }));

export const why = (job) => (job.error || job.cause
  ? h("span", { class: "why" }, job.cause ? h("span", { class: "cause" }, String(job.cause)) : null, " ", job.error ? shown(job.error, { most: 240 }) : null)
  : null);

export const dueOf = (job) => {
  if (job.completed_at) return moment(job.completed_at);
  if (job.state === "in_progress" && job.started_at) return moment(job.started_at);
  return moment(job.fire_at ?? job.scheduled_at);
};

// ---------------------------------------------------------------- asking before doing

// Ask in a dialog; `fields` are inputs by name. Returns their values, or null when it was called off.
export function ask(title, text, { yes = "Yes", danger = false, fields = [] } = {}) {
  return new Promise((resolve) => {
    const form = h("form", { method: null, class: "ask", "aria-labelledby": "ask-title" },
      h("h2", { id: "ask-title" }, title),
      [text].flat().map((each) => (each instanceof Node ? each : h("p", {}, shown(each, { tag: "span" })))),
      fields.map((field) => h("label", { class: "field" }, field.label,
        h("input", { name: field.name, type: field.type ?? "text", maxlength: field.most ?? null, min: field.min ?? null, value: field.value ?? "", autocomplete: "off" }))),
      h("div", { class: "actions" },
        button("Not now", () => box.close()),
        h("button", { type: "submit", class: danger ? "danger" : "main" }, yes)));
    const box = h("dialog", { "aria-labelledby": "ask-title" }, form);
    let answer = null;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      answer = Object.fromEntries(fields.map((field) => [field.name, form.elements[field.name].value]));
      box.close();
    });
    const before = document.activeElement;
    box.addEventListener("close", () => {
      box.remove();
      if (before?.isConnected) before.focus();
      resolve(answer);
    });
    document.body.append(box);
    box.showModal();
  });
}

// Do something, say what came of it, and never let an error pass unseen. Returns the answer, or null.
export async function attempt(act, told) {
  try {
    const answer = await act();
    const words = typeof told === "function" ? told(answer) : told;
    if (words) say(...[words].flat());
    return answer;
  } catch (error) {
    if (error.name !== "AbortError" && !error.ended) say(error instanceof Failed ? error.told : String(error), "bad");
    return null;
  }
}

const DONE = {
  cancel: ["Canceled.", "It has started or ended: nothing was canceled."],
  retry: ["It runs again.", "Only a failed job can be run again."],
  drop: ["Forgotten.", "It has not ended, so it is kept."],
  promote: ["It is due now.", "It is not pending any more."],
};

// The buttons for one job, by its state.
export function jobButtons(job, me, after) {
  if (me.role !== "operate") return [];
  const act = (name, title, { danger = false, text = "" } = {}) => async () => {
    if (text && !(await ask(title, text, { yes: title, danger }))) return;
    const body = name === "cancel" && job.state === "in_progress" ? { running: true } : {};
    await attempt(() => post(jobPath(job.id, name), body), (answer) => (answer.changed ? DONE[name][0] : [DONE[name][1], "bad"]));
    after();
  };
  if (job.state === "pending") {
    return [button("Run now", act("promote", "Run now"), { kind: "main" }),
      button("Cancel", act("cancel", "Cancel this job", { danger: true, text: "It will never start." }), { kind: "danger" })];
  }
  if (job.state === "in_progress") {
    return [button("Cancel", act("cancel", "Cancel this run", { danger: true, text: "It is interrupted at its next await; what it did outside stays done." }), { kind: "danger" })];
  }
  const drop = button("Drop", act("drop", "Drop this job", { danger: true, text: `Its row is deleted: nothing will be known of it any more.${job.cron === null ? "" : " It goes from its cron's history, too."}` }), { kind: "danger" });
  return job.state === "failed" ? [button("Run again", act("retry", "Run again"), { kind: "main" }), drop] : [drop];
}

// ---------------------------------------------------------------- lists that hold still

// While the pointer or the focus is in a list, it does not change under them: what is new waits, and is counted.
export function steady(box, note, apply) {
  let shownNow = "";
  let waiting = null; // {items, text}
  const busy = () => box.matches(":hover") || box.contains(document.activeElement);
  const use = ({ items, text }) => {
    waiting = null;
    shownNow = text;
    put(note);
    apply(items);
  };
  const flush = () => { if (waiting) use(waiting); };
  box.addEventListener("pointerleave", () => { if (!box.contains(document.activeElement)) flush(); });
  box.addEventListener("focusout", (event) => { if (!box.contains(event.relatedTarget) && !box.matches(":hover")) flush(); });
  return (items, name) => {
    const text = JSON.stringify(items);
    if (text === (waiting?.text ?? shownNow)) return;
    if (!shownNow || !busy()) {
      use({ items, text });
      return;
    }
    const seen = new Set(JSON.parse(shownNow).map(name));
    const added = items.filter((item) => !seen.has(name(item))).length;
    if (!waiting) put(note, button("", flush, { kind: "quiet" }));
    note.firstElementChild.textContent = added ? `${added} new: show` : "changed: show";
    waiting = { items, text };
  };
}

// ---------------------------------------------------------------- the runs of a cron, as cells

export function runCells(runs) {
  return [...runs].reverse().map((run) => {
    const lines = () => runLines(run);
    const props = { class: `cell s-${run.state}`, "aria-label": lines().join(". "), tabindex: "-1" };
    const sign = h("span", { "aria-hidden": "true" }, glyph(run.state));
    return tip(run.job_id
      ? h("a", { ...props, href: link(`jobs/${encodeURIComponent(run.job_id)}`) }, sign)
      : h("button", { ...props, type: "button" }, sign), lines);
  });
}

export const older = (ticks) => (ticks === 1 ? "one older tick was skipped" : `${ticks} older ticks were skipped`);

function runLines(run) {
  const many = run.ticks > 1 ? ` (${run.ticks} ticks)` : "";
  const told = [`${(STATES[run.state] ?? ["", run.state])[1]}${run.reason ? `: ${run.reason}` : ""}${many}`, `tick ${run.tick.slice(0, 19).replace("T", " ")} UTC`];
  if (run.manual) told.push("run by hand");
  if (run.job_id && run.skipped) told.push(older(run.skipped));
  if (run.duration_seconds !== null) told.push(`took ${run.duration_seconds} s`);
  if (run.attempts > 1) told.push(`${run.attempts} attempts`);
  if (run.error) told.push(run.error);
  return told;
}

// Pools: how many may run at once, and how many do.

import { get, post } from "./api.js";
import { h, put, shown } from "./dom.js";
import { ask, attempt, button, card, empty, heading, table } from "./widgets.js";

export async function show(main, { me, signal, refresh }) {
  const box = h("div", {}, empty("…"));
  put(main, heading("Pools"), h("p", { class: "dim" }, "A pool bounds how many of its functions' jobs run at the same time. A limit that is set here holds at once and after a restart, until it is taken back."),
    card("Limits", { id: "limits" }, box));
  let soon = () => {};
  const set = (pool) => async () => {
    const given = await ask(`Limit of ${pool.name}`.slice(0, 200), `The code declares ${pool.declared ?? "none"}. Runs that are on go on. Empty: as declared.`, { yes: "Set", fields: [{ name: "limit", label: "At the same time", type: "number", min: "0", value: String(pool.limit ?? "") }] });
    if (!given) return;
    const limit = given.limit.trim() === "" ? null : Number(given.limit);
    await attempt(() => post("admin/pools", { name: pool.name, limit }), (now) => `The limit is ${now.limit} now.`);
    soon(true);
  };
  const rows = table("Pools", [
    { title: "Pool", class: "wide", cell: (pool) => shown(pool.name, { most: 120, className: "path" }) },
    { title: "Running", class: "wide", cell: (pool) => gauge(pool) },
    { title: "Limit", class: "num", cell: (pool) => String(pool.limit ?? "–") },
    { title: "Declared", class: "num", cell: (pool) => [String(pool.declared ?? "–"), pool.declared !== pool.limit ? h("span", { class: "dim" }, " changed") : null] },
    me.role === "operate" ? { title: "", class: "acts", cell: (pool) => button("Change…", set(pool), { label: `Change the limit of ${pool.name}`.slice(0, 200) }) } : null,
  ].filter(Boolean), []);
  let known = "";
  soon = refresh(async () => {
    const found = await get("admin/pools", {}, { signal });
    const text = JSON.stringify(found);
    if (text === known || (known && box.contains(document.activeElement) && !document.activeElement.matches("button"))) return;
    known = text;
    const focused = document.activeElement?.getAttribute("aria-label");
    const within = box.contains(document.activeElement);
    put(box, found.items.length ? rows.fill(found.items) : empty("No function has a pool."));
    if (within) [...box.querySelectorAll("button")].find((each) => each.getAttribute("aria-label") === focused)?.focus();
  }, { every: 5000 });
}

function gauge(pool) {
  const part = pool.limit ? Math.min(1, pool.running / pool.limit) : 0;
  const fill = h("span", { class: part >= 1 ? "fill full" : "fill" });
  fill.style.width = `${part * 100}%`;
  return h("span", { class: "gauge-line" }, h("span", { class: "gauge", "aria-hidden": "true" }, fill), `${pool.running}${pool.limit ? ` of ${pool.limit}` : ""}${part >= 1 ? " full" : ""}`);
}

// The frame of the page: login, the bar, and which place is shown. Places are #/overview, #/jobs, #/crons, …

import { BASE, Failed, get, post, session } from "./api.js";
import { forget, h, hideTip, link, put, say, shown } from "./dom.js";
import * as events from "./live.js";
import { setNow, tick } from "./times.js";
import * as crons from "./crons.js";
import * as cron from "./cron.js";
import * as health from "./health.js";
import * as job from "./job.js";
import * as jobs from "./jobs.js";
import * as overview from "./overview.js";
import * as pools from "./pools.js";
import { button } from "./widgets.js";

const PLACES = [["overview", "Overview"], ["jobs", "Jobs"], ["crons", "Crons"], ["pools", "Pools"], ["health", "Health"]];

const app = document.getElementById("app");
let me = null;
let main = null;
let current = null; // {key, page, leave}

// ---------------------------------------------------------------- which place

function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const params = Object.fromEntries(new URLSearchParams(query));
  const [first = "", second] = path.split("/");
  if (first === "jobs" && second) return { key: `job ${second}`, tab: "jobs", page: job, params: { ...params, id: decode(second) } };
  if (first === "crons" && params.name !== undefined) return { key: `cron ${params.name}`, tab: "crons", page: cron, params };
  const page = { "": overview, overview, jobs, crons, pools, health }[first];
  return page ? { key: first || "overview", tab: first || "overview", page, params } : null;
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

async function go({ first = false } = {}) {
  if (!me) return;
  hideTip();
  forget();
  const to = place();
  if (!to) {
    location.replace("#/");
    return;
  }
  for (const tab of app.querySelectorAll("nav a")) {
    if (tab.dataset.tab === to.tab) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  if (current?.key === to.key && to.page.update) {
    current.page.update(to.params);
    return;
  }
  current?.leave.abort();
  const leave = new AbortController();
  const context = { me, params: to.params, signal: leave.signal, refresh: (act, options) => refresh(act, leave.signal, options) };
  current = { key: to.key, page: to.page, leave };
  put(main);
  await to.page.show(main, context);
  const title = main.querySelector("h1");
  document.title = `${title?.textContent ?? "Scheduler"} · ${me.name}`;
  if (!first && !leave.signal.aborted && !main.contains(document.activeElement)) title?.focus({ preventScroll: true });
  if (!first) scrollTo(0, 0);
}

// Call `act` now, when something happened that it cares about, and every now and then: one call at a time, and not more
// often than every `least` ms. What goes wrong is said once, in the page, until it goes well again. Returns what asks for
// one more call; with true, for who waits to see what came of a click, at once.
function refresh(act, signal, { what = ["jobs", "crons", "settings"], every = 15000, least = 1000 } = {}) {
  let asked = false;
  let hurried = false;
  let busy = false;
  let last = 0;
  let timer = 0;
  const notice = document.getElementById("notice");
  const run = async () => {
    if (busy || signal.aborted || document.hidden) return;
    busy = true;
    asked = false;
    last = performance.now();
    try {
      await act();
      put(notice);
    } catch (error) {
      if (error.name !== "AbortError" && !signal.aborted && !error.ended) {
        put(notice, h("p", { class: "notice bad" }, shown(error instanceof Failed ? error.told : `The page failed: ${error}`, { tag: "span" })));
      }
      if (!(error instanceof Failed) && error.name !== "AbortError") console.error(error);
    }
    busy = false;
    if (hurried) atOnce();
    else if (asked) soon();
  };
  const atOnce = () => {
    clearTimeout(timer);
    hurried = busy;
    run();
  };
  const soon = () => {
    asked = true;
    if (busy) return;
    clearTimeout(timer);
    timer = setTimeout(run, Math.max(0, last + least - performance.now()));
  };
  events.live.addEventListener("changed", (event) => { if (what.some((each) => event.detail.has(each))) soon(); }, { signal });
  if (what.includes("jobs")) events.live.addEventListener("job", soon, { signal });
  const beat = setInterval(soon, every);
  signal.addEventListener("abort", () => { clearInterval(beat); clearTimeout(timer); put(notice); });
  run();
  return (now) => (now === true ? atOnce() : soon());
}

// ---------------------------------------------------------------- the frame

function frame() {
  const live = h("span", { class: "live", role: "status" });
  const mark = () => {
    const [sign, word, about] = {
      live: ["●", "Live", "What happens is shown as it happens."],
      broken: ["○", "Not live", "The stream of events is broken: the page asks every 5 seconds."],
      connecting: ["◌", "Connecting", ""], off: ["○", "Off", ""],
    }[events.state];
    put(live, h("span", { "aria-hidden": "true", class: "sign" }, sign), h("span", { class: "word" }, word));
    live.className = `live ${events.state}`;
    live.setAttribute("title", about);
  };
  events.live.addEventListener("state", mark);
  mark();
  main = h("main", { id: "main", tabindex: "-1" });
  put(app,
    h("header", { class: "bar" },
      h("a", { class: "brand", href: "#/", title: `${me.name}, version ${me.version}` }, h("span", { class: "dot", "aria-hidden": "true" }), shown(me.name, { most: 40 })),
      h("nav", { "aria-label": "Places" }, PLACES.map(([tab, title]) => h("a", { href: link(tab), "data-tab": tab }, title))),
      h("div", { class: "bar-end" }, live, themeButton(),
        h("span", { class: "role", title: `key ${me.key_id}` }, me.role === "operate" ? "operator" : "read only"),
        button("Log out", logout))),
    h("div", { id: "notice", role: "status" }), main);
}

function themeButton() {
  const next = { "": "dark", dark: "light", light: "" };
  const names = { "": "◑ Auto", dark: "☾ Dark", light: "☀ Light" };
  const root = document.documentElement;
  const node = h("button", { type: "button", class: "theme" });
  const mark = () => {
    const name = names[root.dataset.theme ?? ""];
    put(node, h("span", { "aria-hidden": "true" }, name[0]), h("span", { class: "word" }, name.slice(1)));
    node.setAttribute("aria-label", `Theme: ${name.slice(2)}. Change it`);
  };
  node.addEventListener("click", () => {
    const chosen = next[root.dataset.theme ?? ""];
    if (chosen) root.dataset.theme = chosen;
    else delete root.dataset.theme;
    try {
      localStorage.setItem("actor-scheduler-theme", chosen);
    } catch {
      // Storage is off: it holds until the page is left.
    }
    mark();
  });
  mark();
  return node;
}

async function logout() {
  try {
    await post("dashboard/logout");
  } catch (error) {
    if (!error.ended) say(error.told ?? String(error), "bad");
    return;
  }
  note(false);
  showLogin("You are logged out.");
}

// ---------------------------------------------------------------- login

// No script can see the session's cookie. This says whether there may be one, so that nobody has to ask in vain. Apps
// that are mounted beside each other have a session each.
const LOGGED_IN = `actor-scheduler-logged-in ${BASE.pathname}`;

function mayBeLoggedIn() {
  try {
    return localStorage.getItem(LOGGED_IN) !== null;
  } catch {
    return true; // Storage is off: the server knows.
  }
}

function note(loggedIn) {
  try {
    if (loggedIn) localStorage.setItem(LOGGED_IN, "1");
    else localStorage.removeItem(LOGGED_IN);
  } catch {
    // Storage is off: see above.
  }
}

function showLogin(told = "") {
  me = null;
  current?.leave.abort();
  current = null;
  events.stop();
  hideTip();
  forget();
  document.querySelectorAll("dialog").forEach((each) => each.close());
  document.title = "Log in · Scheduler";
  const key = h("input", { type: "password", id: "key", name: "key", required: true, autocomplete: "current-password", maxlength: "512", spellcheck: "false" });
  const wrong = h("p", { class: "wrong", role: "alert" });
  const submit = h("button", { type: "submit", class: "main" }, "Log in");
  const form = h("form", { class: "login" },
    h("h1", {}, "Scheduler"), h("p", { class: "told" }, told || "Log in with the deploy key or the read key of this app."),
    h("input", { type: "text", name: "username", autocomplete: "username", value: "operator", hidden: true }), // for password managers
    h("label", { class: "field", for: "key" }, "Key"), key, wrong,
    submit,
    h("p", { class: "dim" }, "The key is exchanged for a session and not kept. A session ends after 12 hours, or half an hour after the page was last open."));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (submit.disabled) return;
    put(wrong);
    const given = key.value.trim();
    key.value = "";
    submit.disabled = true;
    try {
      await post("dashboard/login", { key: given });
      await begin();
    } catch (error) {
      put(wrong, error.status === 401 ? "That is not a key of this app." : shown(error.told ?? String(error), { tag: "span" }));
      key.focus();
    }
    submit.disabled = false;
  });
  put(app, h("main", { id: "main", class: "login-page" }, form));
  key.focus();
}

async function begin() {
  const found = await get("admin/me");
  setNow(found.now);
  me = found;
  note(true);
  frame();
  events.start();
  await go({ first: true });
}

session.addEventListener("ended", () => { note(false); if (me) showLogin("Your session has ended. Log in again to go on where you were."); });
addEventListener("hashchange", () => go());
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || !me) return;
  if (event.target.closest("input, textarea, select, dialog")) return;
  event.preventDefault();
  const search = document.getElementById("search");
  if (search) search.focus();
  else {
    location.hash = "#/jobs";
    addEventListener("hashchange", () => setTimeout(() => document.getElementById("search")?.focus()), { once: true });
  }
});
addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main")?.focus();
});
setInterval(tick, 1000);

if (mayBeLoggedIn()) begin().catch((error) => showLogin(error.ended ? "" : error.told ?? String(error)));
else showLogin();

// What happens in the app, as it happens. While the stream is broken everything is asked for every five seconds, and
// the page says that it is not live. A page that nobody looks at asks for nothing.

import { BASE, get } from "./api.js";

export const live = new EventTarget(); // says "state", "job" (detail: the job), "changed" (detail: a Set of what)

const POLL_MS = 5000;
const BACKOFF_MAX_MS = 30000;
const EVERYTHING = ["jobs", "crons", "settings"];

let stream = null;
let failures = 0;
let again = 0;
let poll = 0;
let running = false;
export let state = "off"; // off | connecting | live | broken

export function start() {
  if (running) return;
  running = true;
  open();
}

export function stop() {
  running = false;
  close();
  become("off");
}

document.addEventListener("visibilitychange", () => {
  if (!running) return;
  if (document.hidden) {
    close();
    become("connecting");
  } else {
    failures = 0;
    open();
    tell(EVERYTHING);
  }
});

function open() {
  close();
  become(failures ? "broken" : "connecting");
  stream = new EventSource(new URL("admin/events", BASE));
  stream.addEventListener("open", () => {
    if (failures) tell(EVERYTHING); // what was missed
    failures = 0;
    clearInterval(poll);
    poll = 0;
    become("live");
  });
  stream.addEventListener("job", (event) => live.dispatchEvent(new CustomEvent("job", { detail: JSON.parse(event.data) })));
  stream.addEventListener("changed", (event) => tell(JSON.parse(event.data).what));
  stream.addEventListener("lagged", () => tell(EVERYTHING));
  stream.addEventListener("error", broken);
}

function broken() {
  close();
  failures += 1;
  become("broken");
  if (failures === 1) get("admin/me").catch(() => {}); // a stream does not say why it ended; if the session did, this does
  poll = setInterval(() => tell(EVERYTHING), POLL_MS);
  const wait = Math.min(1000 * 2 ** (failures - 1), BACKOFF_MAX_MS) * (0.75 + Math.random() / 2);
  again = setTimeout(() => { if (running && !document.hidden) reopen(); }, wait);
}

// A stream is asked for only when it will be given: by a server that is there, to a session that is.
async function reopen() {
  try {
    await get("admin/me");
  } catch {
    if (running && !document.hidden && !stream) broken();
    return;
  }
  if (!running || document.hidden || stream) return;
  const kept = poll;
  poll = 0;
  open();
  poll = kept;
}

function close() {
  clearTimeout(again);
  clearInterval(poll);
  poll = 0;
  stream?.close();
  stream = null;
}

const tell = (what) => live.dispatchEvent(new CustomEvent("changed", { detail: new Set(what) }));

function become(next) {
  if (state === next) return;
  state = next;
  live.dispatchEvent(new Event("state"));
}

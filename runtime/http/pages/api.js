// The administration's JSON. Every answer is taken as data, every error as something a person can read.

export const BASE = new URL("..", import.meta.url); // …/dashboard/api.js: the surface may be mounted under a prefix

// A number that a float of the browser would change: the text the server sent is kept.
export class Exact {
  constructor(source) { this.source = source; }
  toString() { return this.source; }
  toJSON() { return this.source; }
}

export class Failed extends Error {
  constructor(status, code, message, requestId, data = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.requestId = requestId;
    this.data = data;
  }
  // Whether it was refused because nobody is logged in. Whoever has a session gets 429 for other reasons only.
  get ended() { return this.status === 401 || this.code === "TOO_MANY_FAILURES"; }
  get told() {
    return this.requestId ? `${this.message} (${this.code}, request ${this.requestId})` : this.message;
  }
}

export const session = new EventTarget(); // says "ended"

export function parse(text, exact) {
  return JSON.parse(text, (_, value, context) => {
    if (typeof value !== "number") return value;
    const source = context?.source;
    if (source === undefined) return Number.isInteger(value) && !Number.isSafeInteger(value) ? new Exact(`≈${value}`) : value;
    if (exact ? source !== String(value) : Number.isInteger(value) && !Number.isSafeInteger(value)) return new Exact(source);
    return value;
  });
}

async function ask(method, path, { params = {}, body, signal, exact = false, raw = false } = {}) {
  const url = new URL(path, BASE);
  for (const [name, value] of Object.entries(params)) {
    if (value !== "" && value !== null && value !== undefined) url.searchParams.set(name, String(value));
  }
  const sent = method === "GET" ? {} : {
    body: JSON.stringify(body ?? {}),
    headers: { "Content-Type": "application/json", "X-Actor-Scheduler": "1" },
  };
  let response;
  try {
    response = await fetch(url, { method, signal, credentials: "same-origin", cache: "no-store", redirect: "error", ...sent });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failed(0, "UNREACHABLE", "The server can't be reached.", "");
  }
  if (response.ok && raw) return response;
  const text = await response.text();
  let document;
  try {
    document = text ? parse(text, exact) : {};
  } catch {
    document = {};
  }
  if (response.ok) return document;
  const told = document.error ?? {};
  const failed = new Failed(response.status, String(told.code ?? response.status), String(told.message ?? "The server refused."),
    String(told.request_id ?? response.headers.get("X-Request-Id") ?? ""), told.data ?? null);
  if (failed.ended && path !== "dashboard/login") session.dispatchEvent(new Event("ended"));
  throw failed;
}

export const get = (path, params = {}, options = {}) => ask("GET", path, { params, ...options });
export const post = (path, body = {}, options = {}) => ask("POST", path, { body, ...options });
export const jobPath = (id, action = "") => `admin/jobs/${encodeURIComponent(id)}${action ? `/${action}` : ""}`;

// Values as JSON text, two spaces a level; numbers that were kept exactly stand as they came. Characters that are not
// seen, or that change the order of others, are escapes.
export function pretty(value, indent = "") {
  if (value instanceof Exact) return value.source;
  if (value === null || typeof value !== "object") return quoted(value);
  const inner = `${indent}  `;
  const parts = Array.isArray(value)
    ? value.map((each) => inner + pretty(each, inner))
    : Object.entries(value).map(([key, each]) => `${inner}${quoted(key)}: ${pretty(each, inner)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return parts.length ? `${open}\n${parts.join(",\n")}\n${indent}${close}` : open + close;
}

const HARD = /[\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff\ud800-\udfff]/g;

function quoted(value) {
  const text = JSON.stringify(value) ?? "null";
  if (typeof value !== "string") return text;
  return text.replace(HARD, (character, at) => {
    const code = character.charCodeAt(0);
    const paired = code >= 0xd800 && code <= 0xdfff;
    if (paired && (code < 0xdc00 ? /[\udc00-\udfff]/.test(text[at + 1] ?? "") : /[\ud800-\udbff]/.test(text[at - 1] ?? ""))) return character;
    return `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

// How anything gets into the page. What is shown may come from strangers, so there are three rules, and this module
// holds them: text goes in as text nodes, attributes are of the list below, and links lead to places of this page.

const SVG = "http://www.w3.org/2000/svg";

const ATTRIBUTES = new Set([
  "class", "id", "for", "type", "name", "value", "placeholder", "autocomplete", "list", "min", "max", "step",
  "maxlength", "rows", "scope", "tabindex", "role", "title", "datetime", "href", "disabled", "checked", "hidden",
  "open", "required", "spellcheck", "inputmode", "enterkeyhint", "novalidate", "colspan", "label", "selected",
  "viewBox", "width", "height", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "rx", "d", "transform",
  "text-anchor", "focusable",
]);

function attribute(node, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (!ATTRIBUTES.has(name) && !/^(aria|data)-[a-z-]+$/.test(name)) throw new Error(`attribute ${name} is not allowed`);
  if (name === "href" && !/^#\//.test(value)) throw new Error("a link leads to a place of this page");
  node.setAttribute(name, value === true ? "" : String(value));
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (name === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else attribute(node, name, value);
  }
  node.append(...flat(children));
  return node;
}

function flat(children) {
  return children.flat(9).filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(String(child))));
}

// An element: h("a", {href: "#/jobs", on: {click: act}}, "text", child, null).
export const h = (tag, props = {}, ...children) => fill(document.createElement(tag), props, children);

// The same for a drawing.
export const s = (tag, props = {}, ...children) => fill(document.createElementNS(SVG, tag), props, children);

export function put(node, ...children) {
  node.replaceChildren(...flat(children));
  return node;
}

// Make what a node holds look like `fresh`, keeping the nodes that are there: what has the focus keeps it. For parts
// without listeners.
export function morph(node, ...fresh) {
  const next = flat(fresh);
  next.forEach((want, at) => {
    const have = node.childNodes[at];
    if (!have) node.append(want);
    else if (have.nodeName !== want.nodeName) have.replaceWith(want);
    else if (have.nodeType === Node.TEXT_NODE) {
      if (have.data !== want.data) have.data = want.data;
    } else {
      for (const { name } of [...have.attributes]) if (!want.hasAttribute(name)) have.removeAttribute(name);
      for (const { name, value } of want.attributes) if (have.getAttribute(name) !== value) have.setAttribute(name, value);
      morph(have, ...want.childNodes);
    }
  });
  while (node.childNodes.length > next.length) node.lastChild.remove();
}

export const link = (path, params = {}) => {
  const query = new URLSearchParams(Object.entries(params).filter(([, value]) => value !== "" && value !== null && value !== undefined));
  return `#/${path}${query.size ? `?${query}` : ""}`;
};

// ---------------------------------------------------------------- text of strangers

// Characters that are not seen, or that change the order of others: controls, C1, zero widths, direction overrides, tags.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;
const MARKS_MAX = 300;

export const cut = (text, most) => {
  if (text.length <= most) return text;
  const end = /[\ud800-\udbff]/.test(text[most - 1]) ? most - 1 : most;
  return `${text.slice(0, end)}…`;
};

// Text as it is, isolated from its surroundings; what can't be seen gets a mark in front, and stays what it is.
export function shown(value, { most = Infinity, tag = "bdi", className = "" } = {}) {
  const text = cut(String(value), most);
  const node = h(tag, { class: className || null });
  let from = 0;
  let marks = 0;
  for (const found of text.matchAll(UNSEEN)) {
    if (++marks > MARKS_MAX) break;
    node.append(text.slice(from, found.index));
    const code = found[0].codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
    node.append(h("span", { class: "unseen", "data-code": code }, found[0]));
    from = found.index + found[0].length;
  }
  node.append(text.slice(from));
  return node;
}

// ---------------------------------------------------------------- what the page says

export function say(text, kind = "good") {
  const box = document.getElementById("said");
  const line = h("div", { class: `saying ${kind}`, role: kind === "bad" ? "alert" : null },
    shown(text, { most: 400, tag: "span" }),
    h("button", { type: "button", class: "quiet", "aria-label": "Dismiss", on: { click: () => line.remove() } }, "×"));
  box.append(line);
  while (box.children.length > 3) box.firstElementChild.remove();
  const go = () => {
    if (line.matches(":hover") || line.contains(document.activeElement)) setTimeout(go, 1000);
    else line.remove();
  };
  setTimeout(go, kind === "bad" ? 10000 : 6000);
}

// What went wrong elsewhere is not said on the next page.
export const forget = () => document.querySelectorAll("#said .bad").forEach((line) => line.remove());

// One tooltip for all: on hover, on focus, on touch. Its text is also the element's label, so that nobody needs it.
export function tip(node, lines) {
  const box = document.getElementById("tip");
  const show = () => {
    put(box, lines().map((line) => h("div", {}, shown(line, { most: 300 }))));
    box.hidden = false;
    const at = node.getBoundingClientRect();
    const size = box.getBoundingClientRect();
    const left = Math.min(Math.max(8, at.left + at.width / 2 - size.width / 2), innerWidth - size.width - 8);
    const above = at.top - size.height - 8;
    box.style.left = `${Math.max(8, left)}px`;
    box.style.top = `${above > 4 ? above : at.bottom + 8}px`;
  };
  const hide = () => { box.hidden = true; };
  node.addEventListener("pointerenter", show);
  node.addEventListener("focus", show);
  node.addEventListener("pointerleave", hide);
  node.addEventListener("blur", hide);
  return node;
}

export const hideTip = () => { document.getElementById("tip").hidden = true; };

// One stop for the tabulator, arrows inside: for strips and marks that are many. Called again whenever they were drawn.
const roves = new WeakSet();

export function roving(box, selector, { last = false } = {}) {
  const all = () => [...box.querySelectorAll(selector)];
  const only = (chosen) => all().forEach((each) => each.setAttribute("tabindex", each === chosen ? "0" : "-1"));
  only(all().at(last ? -1 : 0));
  if (roves.has(box)) return;
  roves.add(box);
  box.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, Home: -1e9, End: 1e9 }[event.key];
    const nodes = all();
    const at = nodes.indexOf(document.activeElement);
    if (!step || at < 0) return;
    event.preventDefault();
    const next = nodes[Math.min(Math.max(at + step, 0), nodes.length - 1)];
    only(next);
    next.focus();
  });
}

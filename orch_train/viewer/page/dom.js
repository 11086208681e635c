"use strict";
// Making elements. Whatever comes from a run enters the page as text nodes or as attributes from
// the short list below, never as markup: there is no other way to put anything on the page.

const SVG = "http://www.w3.org/2000/svg";

/** An element: el("a", {class: "x", href: "#/y", onclick: f}, "text", child, null). */
function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
function svg(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "href" && !String(value).startsWith("#")) throw new Error("links stay here");
    else if (name === "value" || name === "checked") node[name] = value;
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false)
    .map((c) => (c instanceof Node ? c : document.createTextNode(String(c)))));
  return node;
}

/** A number short enough to read: 4 significant digits, thousands grouped. */
function num(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  const size = Math.abs(value);
  if (value === 0) return "0";
  if (Number.isInteger(value) && size < 1e7) return value.toLocaleString("en-US");
  if (size >= 1e6) return `${num(value / 1e6, 3)}M`;
  if (size >= 1e4) return Math.round(value).toLocaleString("en-US");
  if (size < 1e-3) return value.toExponential(1).replace(".0e", "e").replaceAll("-", "−");
  return String(Number(value.toPrecision(digits))).replace("-", "−");
}

/** A divergence: what is below 1e-6 is rounding. */
function divergence(value) {
  return value !== null && value !== undefined && Math.abs(value) < 1e-6 ? "~0" : num(value, 2);
}

/** A number with its sign: +0.333, −0.130, 0. */
function signed(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  const shown = Math.abs(value).toFixed(digits);
  if (Number(shown) === 0) return "0";
  return (value > 0 ? "+" : "−") + shown;
}

function percent(value) {
  return value === null || value === undefined ? "–" : `${(100 * value).toFixed(1)}%`;
}

/** 1h02m, 3m20s, 12s. */
function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const whole = Math.max(0, Math.round(seconds));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  const two = (n) => String(n).padStart(2, "0");
  if (h >= 48) return `${Math.floor(h / 24)}d${two(h % 24)}h`;
  if (h) return `${h}h${two(m)}m`;
  return m ? `${m}m${two(s)}s` : `${s}s`;
}

function plural(count, word) {
  return `${num(count)} ${word}${count === 1 ? "" : "s"}`;
}

/** The colour class of a signed amount. */
function tone(value) {
  return value > 5e-7 ? "good" : value < -5e-7 ? "bad" : "even";
}

/** Text in a <pre>; long ones are folded, and their rest is put on the page only when asked for. */
function longText(text, kind = "", limit = 1600) {
  const box = el("pre", { class: kind, tabindex: "0" });
  if (text.length <= limit * 1.25) {
    box.append(text);
    return box;
  }
  box.append(text.slice(0, limit), "…");
  const more = el("button", { class: "more", type: "button", onclick: () => {
    box.replaceChildren(text);
    more.remove();
  } }, `show all ${num(text.length)} characters`);
  return el("div", { class: "folded" }, box, more);
}

function badge(text, kind = "", title = null) {
  return el("span", { class: `badge ${kind}`, title }, text);
}

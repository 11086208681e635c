"use strict";
// The frame: header, routes, keys, theme, and looking again while a run goes on.

const VIEWS = { overview: overviewView, list: listView, episode: episodeView, group: groupView, tasks: tasksView, task: taskView, config: configView };
const TABS = [["overview", "Overview", "o"], ["list", "Trajectories", "l"], ["tasks", "Tasks", "s"], ["config", "Settings", "c"]];
const UNDER = { episode: "list", group: "list", task: "tasks" };
const KEYS = [
  ["o  l  s  c", "overview, trajectories, tasks, settings"], ["/", "to the task filter"], ["j  k", "down and up in a table"],
  ["Enter", "open the marked row"], ["[  ]", "previous and next trajectory or page"], ["t", "tokens of a trajectory"],
  ["g", "its group, side by side"], ["d", "light or dark"], ["Esc", "back"], ["?", "this list"],
];
const LOOK_AGAIN_MS = 4000;
const state = { runs: [], actions: {}, drawing: 0, seen: "" };

async function start() {
  applyTheme(remembered("theme"));
  document.addEventListener("keydown", onKey);
  window.addEventListener("hashchange", () => draw());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawCharts);
  await look();
  await draw();
  if (!EMBEDDED) setInterval(lookAgain, LOOK_AGAIN_MS);
}

/** Fetch the state of the runs; true if anything changed. */
async function look() {
  const { runs } = await ask("runs");
  const seen = JSON.stringify(runs.map((r) => [r.results, r.episodes && r.episodes.episodes, r.problems, r.finished]));
  const changed = seen !== state.seen;
  Object.assign(state, { runs, seen });
  drawTop();
  drawNotices(runs.flatMap((r) => r.problems.map((p) => (runs.length > 1 ? `${r.name}: ${p}` : p))));
  return changed;
}

async function lookAgain() {
  if (document.hidden) return;
  try {
    // Curves and lists follow the run; what is being read stays as it is.
    const { view } = currentRoute();
    const busy = document.activeElement && document.activeElement.matches("input, select");
    if ((await look()) && !busy && (view === "overview" || view === "list")) await draw(true);
  } catch (problem) {
    drawNotices([problem.message]);
  }
}

async function draw(again = false) {
  const { view, query } = currentRoute();
  const main = document.getElementById("main");
  const mine = ++state.drawing;
  state.actions = {};
  drawTop();
  let page;
  try {
    if (!state.runs.length) await look();
    page = await (VIEWS[view] || unknownView)(state, query);
  } catch (problem) {
    page = el("div", { class: "blank" }, el("h2", {}, "This cannot be shown"), el("p", { class: "problem" }, problem.message));
  }
  if (mine !== state.drawing) return;
  const marked = again ? markedIndex() : -1;
  main.replaceChildren(page);
  dropOldCharts();
  main.dataset.ready = location.hash;
  if (!again) window.scrollTo(0, 0);
  if (marked >= 0) mark(marked);
  document.title = `${[query.task || query.group, view].filter(Boolean)[0]} · ${state.runs.map((r) => r.name).join(" and ")} · orch view`;
}

async function unknownView() {
  throw new Error("there is no such view; the tabs above lead to those there are");
}

function drawTop() {
  const { view } = currentRoute();
  const current = UNDER[view] || view;
  document.getElementById("top").replaceChildren(
    el("div", { class: "brand" }, "orch", el("span", {}, " view")),
    el("div", { class: "runs" }, state.runs.map((run, i) => el("span", { class: "run", title: run.path },
      el("i", { class: `swatch run${i}` }), el("b", {}, run.name), el("small", {}, progressText(run))))),
    el("nav", { "aria-label": "views" }, TABS.map(([name, text, key]) => el("a", { href: address(name), class: name === current ? "current" : "", "aria-current": name === current ? "page" : null, title: `key: ${key}` }, text))),
    el("div", { class: "buttons" },
      el("button", { type: "button", onclick: toggleTheme, "aria-label": "light or dark", title: "light or dark (d)" }, "◐"),
      el("button", { type: "button", onclick: showKeys, "aria-label": "keys", title: "keys (?)" }, "?")));
}

function progressText(run) {
  const of = run.iterations ? ` of ${num(run.iterations)}` : "";
  const ended = run.finished && run.iterations && run.step >= run.iterations;
  const age = run.seconds_since_result;
  const when = EMBEDDED || age === null ? "" : ended ? " · finished" : ` · last result ${duration(age)} ago`;
  return ` step ${num(run.step)}${of}${when}`;
}

function drawNotices(texts) {
  document.getElementById("notices").replaceChildren(...texts.map((t) => el("p", { class: "problem" }, t)));
}

// -- theme -------------------------------------------------------------------------------------

function remembered(name) {
  try {
    return localStorage.getItem(`orch-view-${name}`);
  } catch {
    return null;  // storage is switched off: the system's theme it is
  }
}

function applyTheme(theme) {
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}

function toggleTheme() {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  applyTheme(dark ? "light" : "dark");
  try {
    localStorage.setItem("orch-view-theme", dark ? "light" : "dark");
  } catch {
    // not remembered then
  }
  redrawCharts();
}

/** Charts hold their colours: another theme needs new charts. */
function redrawCharts() {
  if (plots.length) draw(true);
}

// -- keys --------------------------------------------------------------------------------------

function showKeys() {
  const box = el("dialog", { class: "keys", onclose: () => box.remove() }, el("h2", {}, "Keys"),
    el("table", {}, KEYS.map(([key, text]) => el("tr", {}, el("th", {}, el("kbd", {}, key)), el("td", {}, text)))),
    el("form", { method: "dialog" }, el("button", {}, "close")));
  document.body.append(box);
  box.showModal();
}

function tableRows() {
  return [...document.querySelectorAll("tr.row")];
}

function markedIndex() {
  return tableRows().findIndex((row) => row.classList.contains("marked"));
}

function mark(index) {
  const rows = tableRows();
  rows.forEach((row, i) => row.classList.toggle("marked", i === index));
  if (rows[index]) rows[index].scrollIntoView({ block: "nearest" });
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (document.querySelector("dialog[open]")) return;
  const rows = tableRows();
  const at = markedIndex();
  const act = {
    j: () => mark(Math.min(rows.length - 1, at + 1)),
    k: () => mark(Math.max(0, at - 1)),
    Enter: () => { if (at >= 0) location.hash = rows[at].dataset.href; },
    "/": () => document.getElementById("filter-task")?.focus(),
    o: () => go("overview"), s: () => go("tasks"), l: () => go("list"), c: () => go("config"),
    "[": () => state.actions.previous?.(), "]": () => state.actions.next?.(),
    t: () => state.actions.tokens?.(), g: () => state.actions.group?.(),
    d: toggleTheme, "?": showKeys, Escape: () => { if (currentRoute().view !== "overview") history.back(); },
  }[event.key];
  if (!act || (event.key === "Enter" && at < 0)) return;
  event.preventDefault();
  act();
}

start().catch((problem) => drawNotices([problem.message]));

"use strict";
// The frame: header, routes, keys, theme, and looking again while a run goes on.

const VIEWS = {
  runs: runsView, overview: overviewView, trajectories: listView, episode: episodeView, group: groupView, tasks: tasksView, task: taskView, settings: configView,
};
const TABS = [["overview", "Overview", "o"], ["trajectories", "Trajectories", "l"], ["tasks", "Tasks", "s"], ["settings", "Settings", "c"]];
const UNDER = { episode: "trajectories", group: "trajectories", task: "tasks" };
const KEYS = [
  ["o  l  s  c", "overview, trajectories, tasks, settings"], ["/", "to the task filter"], ["j  k", "down and up in a table"],
  ["Enter", "open the marked row"], ["[  ]", "previous and next trajectory or page"], ["t", "tokens of a trajectory"],
  ["g", "its group, side by side"], ["r", "all runs of the folder"], ["d", "light or dark"], ["Esc", "back"], ["?", "this list"],
];
const LOOK_AGAIN_MS = 4000;
const state = { runs: [], folder: null, actions: {}, drawing: 0, seen: "", about: null };

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
  const about = JSON.stringify(chosenRuns());
  const { runs, folder } = await ask("runs");
  const listed = folder && folder.runs ? folder.runs.map((r) => [r.name, r.step, r.status, r.last]) : [];
  const seen = JSON.stringify([listed, runs.map((r) => [r.results, r.episodes && r.episodes.episodes, r.problems, r.finished])]);
  const changed = seen !== state.seen;
  Object.assign(state, { runs, folder, seen, about });
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
    if ((await look()) && !busy && ["runs", "overview", "trajectories"].includes(view)) await draw(true);
  } catch (problem) {
    drawNotices([problem.message]);
  }
}

async function draw(again = false) {
  const main = document.getElementById("main");
  const mine = ++state.drawing;
  state.actions = {};
  let page;
  try {
    if (state.about !== JSON.stringify(chosenRuns())) await look();
    const { view, query } = currentRoute();
    drawTop();
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
  const { view, query } = currentRoute();
  document.title = `${[query.task || query.group, view].filter(Boolean)[0]} · ${(state.runs.length ? state.runs : [state.folder]).map((r) => r && r.name).join(" and ")} · orch view`;
}

async function unknownView() {
  throw new Error("there is no such view; the tabs above lead to those there are");
}

function drawTop() {
  const { view } = currentRoute();
  const current = UNDER[view] || view;
  document.getElementById("top").replaceChildren(...[
    el("div", { class: "brand" }, "orch", el("span", {}, " view")),
    state.folder ? el("a", { href: address("runs", { of: null }), class: "folder", title: `${state.folder.path} (key: r)` }, state.folder.name, " /") : null,
    el("div", { class: "runs" }, state.runs.map((run, i) => el("span", { class: "run", title: run.path },
      el("i", { class: `swatch run${i}` }), el("b", {}, run.name), el("small", {}, progressText(run))))),
    el("nav", { "aria-label": "views" }, (state.runs.length ? TABS : []).map(([name, text, key]) => el("a", { href: address(name), class: name === current ? "current" : "", "aria-current": name === current ? "page" : null, title: `key: ${key}` }, text))),
    el("div", { class: "buttons" },
      el("button", { type: "button", onclick: toggleTheme, "aria-label": "light or dark", title: "light or dark (d)" }, "◐"),
      el("button", { type: "button", onclick: showKeys, "aria-label": "keys", title: "keys (?)" }, "?"))].filter(Boolean));
}

function progressText(run) {
  const of = run.iterations && run.kind === "GRPO" ? ` of ${num(run.iterations)}` : "";
  const ended = run.status === "finished";
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
    o: () => go("overview"), s: () => go("tasks"), l: () => go("trajectories"), c: () => go("settings"),
    r: () => { if (state.folder) go("runs", { of: null }); },
    "[": () => state.actions.previous?.(), "]": () => state.actions.next?.(),
    t: () => state.actions.tokens?.(), g: () => state.actions.group?.(),
    d: toggleTheme, "?": showKeys, Escape: () => { if (currentRoute().view !== "overview") history.back(); },
  }[event.key];
  if (!act || (event.key === "Enter" && at < 0)) return;
  event.preventDefault();
  act();
}

start().catch((problem) => drawNotices([problem.message]));

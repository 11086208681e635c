"use strict";
// The list of trajectories: filter, sort, page; every state has an address.

const LIST_COLUMNS = [
  ["step", "step"], ["task", "task"], ["reward", "reward"], ["success", "success"],
  ["stop", "stop reason"], ["turns", "turns"], ["tokens", "tokens"], ["member", "member"],
];
/** What to look at first in a step: name, order and filters. */
const SHORTCUTS = [
  ["best", { sort: "reward", order: "desc" }], ["worst", { sort: "reward", order: "asc" }],
  ["reward high, success no", { sort: "reward", order: "desc", success: "no" }],
  ["reward low, success yes", { sort: "reward", order: "asc", success: "yes" }],
];
const STOPS = {
  answered: "a message without a call: the model's answer", max_turns: "no turn was left", max_tool_calls: "no tool call was left",
  max_errors: "too many messages in a row without a successful call", context_overflow: "the conversation no longer fitted into the context",
  output_truncated: "a message was cut off at the most tokens of a turn", infrastructure: "not the model's doing: no reward", unfinished: "still going on",
};
const FILTERS = ["step_from", "step_to", "task", "success", "stop", "reward_from", "reward_to", "turns_from", "turns_to", "group", "text"];
const PAGE_SIZE = 50;

async function listView(state, query) {
  const run = Number(query.run || 0);
  const overview = state.runs[run] || state.runs[0];
  if (!overview.episodes) {
    return el("div", { class: "blank" }, runTabs(state, run, "trajectories"), el("h2", {}, "No trajectories"),
      el("p", {}, "This run has no readable rollouts.db: reporting.store_rollouts is off, no step is done yet, or the file is damaged (see above)."));
  }
  const sort = query.sort || "step";
  const order = query.order || "desc";
  const page = Math.max(0, Number(query.page || 0));
  const filters = Object.fromEntries(FILTERS.filter((n) => query[n]).map((n) => [n, query[n]]));
  const change = (more) => go("trajectories", { run: run || null, ...filters, sort: query.sort, order: query.order, ...more });
  const found = await ask("rollouts", { run, ...filters, sort, order, offset: page * PAGE_SIZE, limit: PAGE_SIZE });
  const pages = Math.max(1, Math.ceil(found.total / PAGE_SIZE));
  state.actions = {
    previous: page > 0 ? () => change({ page: page - 1 }) : null,
    next: page + 1 < pages ? () => change({ page: page + 1 }) : null,
  };
  return el("div", {}, runTabs(state, run, "trajectories"), filterBar(overview, query, filters, change), shortcuts(overview, query, run),
    el("p", { class: "sub", id: "total" }, `${plural(found.total, "trajectory").replace("trajectorys", "trajectories")}`,
      found.total ? ` · mean reward ${num(found.mean.reward)} · success ${percent(found.mean.success)}` : ""),
    found.total ? table(found.rows, run, sort, order, change) : el("div", { class: "blank" }, el("p", {}, "Nothing fits these filters.")),
    pager(page, pages, change));
}

/** Links to the best and worst trajectories of the steps that are chosen, else of the newest. */
function shortcuts(overview, query, run) {
  const newest = overview.episodes.steps[1];
  const steps = query.step_from || query.step_to ? { step_from: query.step_from, step_to: query.step_to } : { step_from: newest, step_to: newest };
  const [from, to] = [steps.step_from || "the first", steps.step_to || "the newest"];
  return el("p", { class: "sub shortcuts" }, String(from) === String(to) ? `step ${from}: ` : `steps ${from} to ${to}: `,
    SHORTCUTS.map(([text, more]) => el("a", { class: "button", href: address("trajectories", { run: run || null, ...steps, ...more }) }, text)));
}

/** How an episode ended; a success that ended otherwise than with an answer explains itself. */
function stopBadge(row) {
  const cut = row.success && row.stop !== "answered";
  const why = `${STOPS[row.stop] || row.stop}${cut ? "; success is judged by what was done before that" : ""}`;
  return [badge(row.stop.replaceAll("_", " "), row.stop === "answered" ? "quiet" : "warn", why), cut ? el("span", { class: "small" }, "done before that") : null];
}

function runTabs(state, run, view) {
  if (state.runs.length < 2) return null;
  return el("nav", { class: "runtabs", "aria-label": "run" }, state.runs.map((r, i) =>
    el("a", { href: address(view, { run: i || null }), class: i === run ? "current" : "", "aria-current": i === run ? "true" : null }, el("i", { class: `swatch run${i}` }), r.name)));
}

function filterBar(overview, query, filters, change) {
  const form = el("form", { class: "filters", onsubmit: (e) => { e.preventDefault(); apply(); } });
  const apply = () => {
    const values = {};
    for (const field of form.querySelectorAll("[data-filter]")) values[field.dataset.filter] = field.value.trim();
    change({ ...values, page: null });
  };
  const field = (name, more) => el("input", { "data-filter": name, value: query[name] || "", onchange: apply, autocomplete: "off", ...more });
  const span = (label, low, high, step) => el("label", {}, label, field(low, { type: "number", step, placeholder: "from", class: "short", "aria-label": `${label} from` }),
    field(high, { type: "number", step, placeholder: "to", class: "short", "aria-label": `${label} to` }));
  const choice = (name, options) => el("select", { "data-filter": name, onchange: apply },
    options.map(([value, text]) => el("option", { value, selected: (query[name] || "") === value }, text)));
  form.append(
    el("label", {}, "task", field("task", { id: "filter-task", type: "search", placeholder: "part of its id", title: "in quotes: exactly this task" })),
    span("step", "step_from", "step_to", 1),
    el("label", {}, "success", choice("success", [["", "any"], ["yes", "yes"], ["no", "no"]])),
    el("label", {}, "stop", choice("stop", [["", "any"], ...overview.episodes.stops.map(([s, n]) => [s, `${s.replaceAll("_", " ")} (${num(n)})`])])),
    span("reward", "reward_from", "reward_to", "any"),
    span("turns", "turns_from", "turns_to", 1),
    el("label", {}, "group", field("group", { placeholder: "its id", class: "middle" })),
    el("label", { title: "reads whole transcripts: slow on large runs" }, "contains", field("text", { type: "search", placeholder: "text in the transcript" })),
    ...(Object.keys(filters).length ? [el("button", { type: "button", onclick: () => go("trajectories", { run: query.run }) }, "clear")] : []),
    el("button", { type: "submit", class: "unseen" }, "filter"));
  return form;
}

function table(rows, run, sort, order, change) {
  const head = LIST_COLUMNS.map(([name, text]) => {
    const active = sort === name;
    const next = active && order === "desc" ? "asc" : "desc";
    return el("th", { class: name === "task" || name === "stop" ? "" : "right", "aria-sort": active ? (order === "desc" ? "descending" : "ascending") : null },
      el("button", { type: "button", class: "sort", onclick: () => change({ sort: name, order: next }) }, text, active ? (order === "desc" ? " ↓" : " ↑") : ""));
  });
  const body = rows.map((row) => {
    const href = episodeAddress(run, row);
    return el("tr", { class: "row", "data-href": href, onclick: (e) => { if (!e.target.closest("a")) location.hash = href; } },
      el("td", { class: "right" }, num(row.step)), el("td", {}, el("a", { href, class: "open" }, row.task)),
      el("td", { class: "right" }, rewardBar(row.reward)), el("td", { class: "right" }, row.success ? el("span", { class: "good" }, "✓ yes") : el("span", { class: "faint" }, "no")),
      el("td", {}, stopBadge(row)),
      el("td", { class: "right" }, num(row.turns)), el("td", { class: "right" }, num(row.tokens)),
      el("td", { class: "right" }, `${row.member} · `, el("a", { href: address("group", { run: run || null, step: row.step, group: row.group }), title: row.group }, "its group")));
  });
  return el("div", { class: "scroll" }, el("table", { class: "list" }, el("thead", {}, el("tr", {}, head)), el("tbody", {}, body)));
}

function rewardBar(value) {
  const width = Math.max(0, Math.min(1, Math.abs(value))) * 40;
  return el("span", { class: "bar" }, `${value.toFixed(3).replace("-", "−")} `, svg("svg", { width: 40, height: 8, "aria-hidden": "true" },
    svg("rect", { class: "rail", width: 40, height: 8, rx: 2 }), svg("rect", { class: value < 0 ? "bad" : "reward", width, height: 8, rx: 2 })));
}

function pager(page, pages, change) {
  if (pages < 2) return null;
  const to = (target, text, name) => el("button", { type: "button", disabled: target < 0 || target >= pages || target === page, "aria-label": name, onclick: () => change({ page: target || null }) }, text);
  return el("nav", { class: "pager", "aria-label": "pages" }, to(0, "⇤", "first page"), to(page - 1, "←", "previous page"),
    el("span", {}, `page ${num(page + 1)} of ${num(pages)}`), to(page + 1, "→", "next page"), to(pages - 1, "⇥", "last page"));
}

"use strict";
// Where answers come from (the server, or the data inside an exported page), and addresses.

const EMBEDDED = (() => {
  const holder = document.getElementById("embedded");
  return holder ? JSON.parse(holder.textContent) : null;
})();

const OLD_NAMES = { list: "trajectories", config: "settings" };  // of addresses that were sent to others

/** Ask the server a question; an exported page answers from what it carries. */
async function ask(name, query = {}) {
  const given = Object.entries({ ...chosenRuns(), ...query }).filter(([, v]) => v !== null && v !== undefined && v !== "");
  if (EMBEDDED) return fromEmbedded(name, Object.fromEntries(given.map(([k, v]) => [k, String(v)])));
  const text = new URLSearchParams(given.map(([k, v]) => [k, String(v)])).toString();
  let reply;
  try {
    reply = await fetch(`api/${name}${text ? `?${text}` : ""}`);
  } catch {
    throw new Error("the server does not answer: was `orch view` ended?");
  }
  const body = await reply.json();
  if (!reply.ok) throw new Error(body.error || `error ${reply.status}`);
  return body;
}

function fromEmbedded(name, query) {
  const chosen = carriedRuns(query);
  const run = EMBEDDED.runs[chosen[Number(query.run || 0)]];
  const key = `${query.step}/${query.group}/${query.member}`;
  const missing = () => { throw new Error("this is not part of the exported page"); };
  if (name === "runs") return { runs: chosen.map((i) => EMBEDDED.runs[i].overview), folder: EMBEDDED.folder };
  if (!run) return missing();
  if (name === "history") return run.history;
  if (name === "metrics") {
    const names = (query.names || "").split(",").filter(Boolean);
    return { columns: Object.fromEntries(names.map((n) => [n, run.columns[n] || []])) };
  }
  if (name === "rollouts") return listEmbedded(run, query);
  if (name === "episode") return run.episodes[key] || missing();
  if (name === "tokens") return run.tokens[key] || missing();
  if (name === "group") return run.groups[`${query.step}/${query.group}`] || missing();
  if (name === "tasks") {
    const rows = EMBEDDED.tasks.tasks.map((t) => ({ task: t.task, runs: chosen.map((i) => t.runs[i]) }));
    return { tasks: rows.filter((t) => t.runs.some(Boolean)) };
  }
  if (name === "task") {
    const groups = chosen.map((i) => {
      const found = Object.values(EMBEDDED.runs[i].groups).filter((g) => g.task === query.task);
      return found.length ? found.reduce((a, b) => (b.step >= a.step ? b : a)) : null;
    });
    return groups.some(Boolean) ? { task: query.task, groups } : missing();
  }
  return missing();
}

/** Numbers of the carried runs that a question is about: all, or of a folder those it names. */
function carriedRuns(query) {
  if (!EMBEDDED.folder) return EMBEDDED.runs.map((_, i) => i);
  const names = EMBEDDED.folder.runs.map((r) => r.name);
  return [query.of, query.with].map((name) => names.indexOf(name)).filter((i) => i >= 0);
}

function listEmbedded(run, query) {
  const at = (name) => (query[name] === undefined ? null : Number(query[name]));
  const within = (value, low, high) =>
    (low === null || value >= low) && (high === null || value <= high);
  const rows = run.rows.filter((row) =>
    within(row.step, at("step_from"), at("step_to"))
    && within(row.reward, at("reward_from"), at("reward_to"))
    && within(row.turns, at("turns_from"), at("turns_to"))
    && (!query.task || (/^".*"$/.test(query.task) ? row.task === query.task.slice(1, -1) : row.task.toLowerCase().includes(query.task.toLowerCase())))
    && (!query.group || row.group === query.group)
    && (!query.stop || row.stop === query.stop)
    && (!query.success || row.success === (query.success === "yes"))
    && (!query.text || JSON.stringify(
      run.episodes[`${row.step}/${row.group}/${row.member}`].episode).includes(query.text)));
  const sort = query.sort || "step";
  const sign = (query.order || "desc") === "desc" ? -1 : 1;
  const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  rows.sort((a, b) => sign * order(a[sort], b[sort]) || sign * (a.step - b.step)
    || order(a.group, b.group) || a.member - b.member);
  const mean = (name) => rows.reduce((sum, row) => sum + Number(row[name]), 0) / (rows.length || 1);
  const offset = at("offset") || 0;
  return {
    total: rows.length,
    mean: { reward: mean("reward"), success: mean("success") },
    rows: rows.slice(offset, offset + (at("limit") || 50)),
  };
}

/** The runs of a folder that the page shows now: they stay in every address until others are chosen. */
function chosenRuns() {
  const { of = null, with: other = null } = addressQuery();
  return { of, with: other };
}

function addressQuery() {
  return Object.fromEntries(new URLSearchParams(location.hash.split(/\?(.*)/s)[1] || ""));
}

/** The address of a view: "#/trajectories?step_from=3". Empty values are left out. */
function address(view, query = {}) {
  const given = Object.entries("of" in query ? query : { ...chosenRuns(), ...query }).filter(([, v]) => v !== null && v !== undefined && v !== "");
  const text = new URLSearchParams(given.map(([k, v]) => [k, String(v)])).toString();
  return `#/${view}${text ? `?${text}` : ""}`;
}

function currentRoute() {
  const [path] = location.hash.replace(/^#\/?/, "").split("?");
  const query = addressQuery();
  return { view: OLD_NAMES[path] || path || (state.folder && !query.of ? "runs" : "overview"), query };
}

function go(view, query) {
  location.hash = address(view, query);
}

/** Change the address without a new entry in the history, and without drawing again. */
function rewriteAddress(view, query) {
  history.replaceState(null, "", address(view, query));
}

function episodeAddress(run, row, more = {}) {
  return address("episode", { run: run || null, step: row.step, group: row.group, member: row.member, ...more });
}

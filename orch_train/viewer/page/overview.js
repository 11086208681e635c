"use strict";
// A run's first view: tiles with the newest numbers, where it came from, curves of every kind by what
// they are about, where the time goes.

const LEARNER = "learners/default_policy/";
const RATE = /(success|(?:pass|avg)_at_\d+\/mean)$/;  // its tasks and its interval stand beside it
const REWARD_PART = /^env_runners\/reward\//;
const SECTIONS = [
  ["Learning", [
    { title: "Reward", names: { "env_runners/episode_return_mean": "mean" } },
    { title: "Success", names: { "env_runners/success": "sampled" }, fromZero: true },
    { title: "Loss", note: "of demonstrations, nats per token", names: { loss: "loss" }, fromZero: true },
    { title: "Held out: success", names: { "evaluation/success": "sampled", "evaluation/greedy/success": "greedy" }, fromZero: true, bands: true },
    { title: "Held out: pass@k", match: /^evaluation\/pass_at_(?!1\/)\d+\/mean$/, part: 1, fromZero: true, bands: true },
    { title: "Held out by domain", note: "avg@n", match: /^evaluation\/by_domain\/[^/]+\/avg_at_\d+\/mean$/, part: 2, fromZero: true },
    { title: "Held out by gold calls", note: "avg@n", match: /^evaluation\/by_gold_calls\/[^/]+\/avg_at_\d+\/mean$/, part: 2, fromZero: true },
  ]],
  ["What the reward is made of", [
    { title: "Reward components", note: "shares", match: REWARD_PART, only: (run, name) => !isCount(run, name) },
    { title: "Reward components: counts", note: "per episode", match: REWARD_PART, only: isCount, fromZero: true },
  ]],
  ["Health", [
    { title: "Policy loss", names: { [`${LEARNER}policy_loss`]: "loss" } },
    { title: "Entropy", note: "nats per token", names: { [`${LEARNER}entropy`]: "entropy" }, fromZero: true },
    { title: "Mismatch KL", note: "engine to learner, nats per token; warning above 0.05", names: { [`${LEARNER}mismatch_kl`]: "KL" }, fromZero: true, least: 1e-6, shown: divergence, limits: [{ y: 0.05, text: "warning above 0.05" }] },
    { title: "Effective sample size", note: "share of the tokens; warning below 0.5", names: { [`${LEARNER}ratio_ess`]: "share" }, fromZero: true, limits: [{ y: 0.5, text: "warning below 0.5" }] },
    { title: "Gradient norm", names: { [`${LEARNER}grad_norm`]: "before clipping", grad_norm: "before clipping" }, fromZero: true },
    { title: "Staleness", note: "weight versions", match: /(^|\/)staleness\/(mean|max)$/, fromZero: true },
    { title: "Groups without spread", names: { "env_runners/groups/zero_variance_all_pass": "all pass", "env_runners/groups/zero_variance_all_fail": "all fail" }, fromZero: true },
    { title: "Calls that never ran", note: "share of calls", match: /^env_runners\/parse\//, fromZero: true, sparse: true },
    { title: "Errors per episode", match: /^env_runners\/errors_per_episode\//, fromZero: true, absent: 0 },
  ]],
  ["Speed and length", [
    { title: "Tokens per second", names: { "env_runners/tokens_per_s": "sampled", [`${LEARNER}tokens_per_s`]: "learned", tokens_per_s: "learned" }, fromZero: true },
    { title: "Episode length", note: "turns, tool calls", names: { "env_runners/episode_len_mean": "turns", "env_runners/tool_calls_mean": "tool calls" }, fromZero: true },
    { title: "Tokens per episode", names: { "env_runners/action_tokens_mean": "written by the model" }, fromZero: true },
  ]],
];
const CURVES = SECTIONS.flatMap(([, curves]) => curves);
const PHASE_NAMES = { generate: "generate", env: "environments", learner_update: "learn", synch_weights: "sync weights", evaluation: "evaluate", idle_learner: "learner idle", other: "other" };
const NOT_PHASES = new Set(["timers/sample"]);
const X_AXES = { training_iteration: "step", time_total_s: "wall time", num_episodes_lifetime: "episodes" };

async function overviewView(state, query) {
  const x = query.x in X_AXES ? query.x : "training_iteration";
  const smoothing = Number(query.smooth || 0);
  const extra = (query.more || "").split(",").filter(Boolean);
  const columns = await Promise.all(state.runs.map((run, i) => readColumns(run, i, extra)));
  if (columns.every((c) => c.training_iteration.length === 0)) return emptyRun(state);
  const plain = { x, columns, smoothing, state };
  plain.range = rangeOf(plain);
  const change = (more) => go("overview", { x: query.x, smooth: query.smooth, more: query.more, ...more });
  return el("div", {},
    tiles(state, columns),
    state.runs.length === 1 && state.runs[0].has_warm_start ? historySection(await ask("history")) : null,
    el("div", { class: "toolbar" },
      el("label", {}, "x axis ", el("select", { onchange: (e) => change({ x: e.target.value }) },
        Object.entries(X_AXES).map(([name, text]) => el("option", { value: name, selected: name === x }, text)))),
      el("label", {}, "smoothing ", el("input", { type: "range", min: 0, max: 0.98, step: 0.02, value: smoothing,
        onchange: (e) => change({ smooth: e.target.value === "0" ? null : e.target.value }) })),
      metricPicker(state, extra, change),
      sampled(state).length ? el("span", { class: "hint" }, "click a curve to read that step's trajectories") : null),
    section("Added", moreCards(plain, extra, change)),
    SECTIONS.map(([title, curves], i) => section(title, curveCards(plain, curves), i === 0 ? "lead" : "")),
    section("Where a step's time goes", sampled(state).map(([, i]) => timeCard(plain, i)), "wide"),
    section("Why episodes ended", sampled(state).map(([, i]) => stopCard(plain, i)), "wide"));
}

/** The runs that sample episodes, with their numbers: a warm start does not. */
function sampled(state) {
  return state.runs.map((run, i) => [run, i]).filter(([run]) => run.kind === "GRPO");
}

/** Cards under a heading; nothing where there are none. */
function section(title, cards, kind = "") {
  const there = cards.flat().filter(Boolean);
  return there.length ? [el("h2", {}, title), el("section", { class: `charts ${kind}`, "aria-label": title }, there)] : null;
}

/** Whether a component of the reward counts something: 1 is not its most. */
function isCount(run, name, values = []) {
  return run.counts.includes(name.split("/").at(-1)) || values.some((v) => v !== null && Math.abs(v) > 1);
}

function emptyRun(state) {
  const going = state.runs.some((run) => !run.finished);
  return el("div", { class: "blank" }, el("h2", {}, "No results yet"),
    el("p", {}, going
      ? "The run has not finished its first training step. This page looks again every few seconds."
      : "metrics.jsonl holds no result."));
}

function phases(run) {
  return run.metrics.filter((n) => n.startsWith("timers/") && !NOT_PHASES.has(n) && n.split("/").length === 2);
}

async function readColumns(run, index, extra) {
  const wanted = new Set(["training_iteration", "time_total_s", "time_this_iter_s", "num_episodes_lifetime", ...extra, ...phases(run)]);
  for (const curve of CURVES) Object.keys(curve.names || {}).forEach((name) => wanted.add(name));
  for (const name of run.metrics) {
    if (name.startsWith("env_runners/stop/") || /^evaluation\/(.*\/)?(n|low|high)$/.test(name) || CURVES.some((c) => c.match && c.match.test(name))) wanted.add(name);
  }
  const known = [...wanted].filter((name) => run.metrics.includes(name));
  const { columns } = await ask("metrics", { run: index, names: known.join(",") });
  // What was measured before the first step was measured at its beginning.
  for (const axis of ["time_total_s", "num_episodes_lifetime"]) {
    if (columns[axis]) columns[axis] = columns[axis].map((v, i) => (v === null && columns.training_iteration[i] === 0 ? 0 : v));
  }
  return { training_iteration: [], ...columns };
}

/** From where to where all charts of the page go. */
function rangeOf(plain) {
  const values = plain.columns.flatMap((found) => found[plain.x] || []).filter((v) => v !== null);
  return values.length ? [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))] : null;
}

/** Series of some metrics over all runs: colours tell runs apart, or metrics where there is one. */
function seriesOf(plain, names, absent = null, bands = false) {
  const { columns, state, x } = plain;
  const sampled = columns.map((found) => found["env_runners/episode_return_mean"] || []);
  const many = state.runs.length > 1;
  const entries = Object.entries(names);
  const labels = [...new Set(Object.values(names))];
  return columns.flatMap((found, run) => entries.flatMap(([name, label], i) => byTasks(found, name, {
    run,
    ...(bands ? intervalOf(found, name) : {}),
    label: many ? (entries.length > 1 ? `${state.runs[run].name}: ${label}` : state.runs[run].name) : label,
    kind: many ? `run${run}` : `k${labels.indexOf(label) % 8}`,
    dash: many && i > 0,
    x: found[x] || found.training_iteration,
    y: absent === null ? found[name] || [] : (found[name] || []).map((v, k) => (v === null && sampled[run][k] !== null ? absent : v)),
  })).filter((s) => s.y.some((v) => v !== null)));
}

/** A held-out rate in one series for each number of tasks: rates over other tasks are not compared. */
function byTasks(found, name, series) {
  const counts = found[name.replace(RATE, "n")];
  const kept = RATE.test(name) && counts ? [...new Set(counts.filter((n, i) => n !== null && series.y[i] !== null))] : [];
  if (kept.length < 2) return [series];
  const only = (values, n) => values && values.map((v, i) => (counts[i] === n ? v : null));
  return kept.map((n) => ({ ...series, label: `${series.label}, ${plural(n, "task")}`, y: only(series.y, n), low: only(series.low, n), high: only(series.high, n) }));
}

/** The ends of a rate's interval; success is avg@n, whose interval it has. */
function intervalOf(found, name) {
  const base = name.endsWith("/success") ? Object.keys(found).find((n) => n.startsWith(name.replace(RATE, "avg_at_")) && n.endsWith("/low"))?.slice(0, -4) : name.slice(0, -5);
  return base && found[`${base}/low`] && found[`${base}/high`] ? { low: found[`${base}/low`], high: found[`${base}/high`] } : {};
}

function picker(plain) {
  return (value) => {
    let step = value;
    if (plain.x !== "training_iteration") {
      const at = (plain.columns[0][plain.x] || []).indexOf(value);
      if (at < 0) return;
      step = plain.columns[0].training_iteration[at];
    }
    if (step > 0) go("trajectories", { step_from: step, step_to: step });
  };
}

function lineCard(plain, curve, names) {
  const series = seriesOf(plain, names, curve.absent ?? null, curve.bands).filter((s) => !curve.sparse || s.y.some((v) => v));
  if (!series.length) return null;
  const note = curve.bands && series.some((s) => s.low) ? "with 95% intervals" : curve.note;
  return chart({ ...curve, note, xRange: plain.range, series, smoothing: plain.smoothing, xName: plain.x, xLabel: X_AXES[plain.x], onPick: sampled(plain.state).length ? picker(plain) : null });
}

function curveCards(plain, curves) {
  return curves.map((curve) => {
    if (curve.names) return lineCard(plain, curve, curve.names);
    const fits = (run, i) => (n) => curve.match.test(n) && (!curve.only || curve.only(run, n, plain.columns[i][n]));
    const found = [...new Set(plain.state.runs.flatMap((run, i) => run.metrics.filter(fits(run, i))))].slice(0, 8);
    const names = Object.fromEntries(found.map((n) => [n, n.split("/").at(curve.part ?? -1).replaceAll("_", " ")]));
    if (plain.state.runs.length < 2 || found.length < 3) return lineCard(plain, curve, names);
    // Many metrics of two runs do not fit in one picture: each run gets its own.
    return plain.state.runs.map((run, i) => lineCard(
      { ...plain, columns: [plain.columns[i]], state: { runs: [run] } }, { ...curve, title: `${curve.title}: ${run.name}` }, names));
  });
}

function moreCards(plain, extra, change) {
  return extra.map((name) => {
    const card = lineCard(plain, { title: name }, { [name]: name.split("/").at(-1) });
    if (card) {
      card.querySelector("figcaption").append(el("button", { class: "plainbutton", type: "button", title: "remove this curve",
        onclick: () => change({ more: extra.filter((n) => n !== name).join(",") }) }, "×"));
    }
    return card;
  });
}

function metricPicker(state, extra, change) {
  const names = [...new Set(state.runs.flatMap((run) => run.metrics))].filter((n) => !extra.includes(n));
  const field = el("input", { list: "metric-names", placeholder: "add any metric…", "aria-label": "add any metric", class: "pick",
    onchange: (e) => { if (names.includes(e.target.value)) change({ more: [...extra, e.target.value].join(",") }); } });
  return el("span", {}, field, el("datalist", { id: "metric-names" }, names.map((n) => el("option", { value: n }))));
}

function timeCard(plain, index) {
  const found = plain.columns[index];
  const run = plain.state.runs[index];
  const rows = found.training_iteration.map((s, i) => i).filter((i) => found.time_this_iter_s && found.time_this_iter_s[i] !== null);
  const names = phases(run);
  const series = names.map((name) => [name.slice(7), rows.map((i) => (found[name] || [])[i] || 0)]);
  const rest = rows.map((i, k) => Math.max(0, found.time_this_iter_s[i] - series.reduce((sum, [, v]) => sum + v[k], 0)));
  const total = (values) => values.reduce((a, b) => a + b, 0);
  const all = [...series, ["other", rest]].filter(([, v]) => total(v) > 0).sort((a, b) => total(b[1]) - total(a[1]));
  const whole = all.reduce((sum, [, v]) => sum + total(v), 0) || 1;
  return chart({
    title: plain.state.runs.length > 1 ? `Seconds per step: ${run.name}` : "Seconds per step",
    stacked: true, xName: "training_iteration", xLabel: "step", xRange: plain.x === "training_iteration" ? plain.range : null, onPick: (step) => go("trajectories", { run: index || null, step_from: step, step_to: step }),
    series: all.map(([name, y]) => ({ label: `${PHASE_NAMES[name] || name} ${percent(total(y) / whole)}`, kind: phaseKind(name), x: rows.map((i) => found.training_iteration[i]), y })),
  });
}

function phaseKind(name) {
  const at = Object.keys(PHASE_NAMES).indexOf(name);
  return `k${at < 0 ? 7 : at}`;
}

function stopCard(plain, index) {
  const found = plain.columns[index];
  const names = Object.keys(found).filter((n) => n.startsWith("env_runners/stop/"));
  const rows = found.training_iteration.map((s, i) => i).filter((i) => names.some((n) => found[n][i] !== null));
  return chart({
    title: plain.state.runs.length > 1 ? `Stop reasons: ${plain.state.runs[index].name}` : "Stop reasons", note: "share of episodes",
    stacked: true, xName: "training_iteration", xLabel: "step", xRange: plain.x === "training_iteration" ? plain.range : null, onPick: (step) => go("trajectories", { run: index || null, step_from: step, step_to: step }),
    series: names.map((n, i) => ({ label: n.split("/").at(-1).replaceAll("_", " "), kind: `k${i % 8}`, x: rows.map((r) => found.training_iteration[r]), y: rows.map((r) => found[n][r] || 0) })),
  });
}

function tiles(state, columns) {
  const specs = [
    ["Reward", "env_runners/episode_return_mean", num], ["Success", "env_runners/success", percent], ["Loss", "loss", num],
    ["Held out", "evaluation/success", percent], ["Mismatch KL", `${LEARNER}mismatch_kl`, divergence],
    ["Tokens/s sampled", "env_runners/tokens_per_s", (v) => num(Math.round(v))], ["Seconds per step", "time_this_iter_s", (v) => num(v, 3)],
  ];
  const cards = specs.map(([title, name, shown]) => {
    const values = columns.map((found) => (found[name] || []).filter((v) => v !== null));
    if (values.every((v) => v.length === 0)) return null;
    return el("div", { class: "tile" }, el("span", { class: "title" }, title),
      values.map((v, run) => el("div", { class: "value" },
        state.runs.length > 1 ? el("i", { class: `swatch run${run}` }) : null, v.length ? shown(v.at(-1)) : "–",
        v.length > 1 ? el("small", {}, `from ${shown(v[0])}`) : null)));
  });
  return el("section", { class: "tiles", "aria-label": "newest numbers" }, cards);
}

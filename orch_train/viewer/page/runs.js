"use strict";
// The runs of a folder as a table, and a run from the beginning of its warm start.

async function runsView(state, query) {
  const { folder } = await ask("runs", { of: null, with: null });
  if (!folder) throw new Error("this page shows runs that were named, not a folder of them");
  const marked = new Set((query.marked || "").split(" ").filter(Boolean));
  const toggle = (name) => {
    if (!marked.delete(name)) marked.add(name);
    go("runs", { of: null, marked: [...marked].slice(-2).join(" ") });
  };
  const trained = folder.runs.filter((r) => r.warm_start);
  const history = trained.length === 1 ? await ask("history", { of: trained[0].name }) : null;
  const pair = [...marked].map((name) => decodeURIComponent(name));
  return el("div", {}, el("h1", {}, folder.path), el("p", { class: "sub" }, plural(folder.runs.length, "run"), ", the newest first",
    pair.length === 2 ? [" · ", el("a", { class: "button", href: address("overview", { of: pair[0], with: pair[1] }) }, "compare the two")] : " · mark two to compare them"),
  el("div", { class: "scroll" }, el("table", { class: "list" },
    el("thead", {}, el("tr", {}, ["", "run", "kind", "status", "step", "reward", "success", "held out", "curve", "last result"].map((h) => el("th", {}, h)))),
    el("tbody", {}, folder.runs.map((run) => runRow(run, marked, toggle))))),
  history ? historySection(history) : null);
}

function runRow(run, marked, toggle) {
  const href = address("overview", { of: run.name });
  const key = encodeURIComponent(run.name);
  const { reward, success, loss } = run.last;
  return el("tr", { class: "row", "data-href": href, onclick: (e) => { if (!e.target.closest("a, input")) location.hash = href; } },
    el("td", {}, el("input", { type: "checkbox", checked: marked.has(key), "aria-label": `mark ${run.name}`, onchange: () => toggle(key) })),
    el("td", {}, el("a", { href, class: "open" }, run.name)),
    el("td", {}, run.kind, run.warm_start ? el("span", { class: "small" }, ` after ${run.warm_start}`) : null),
    el("td", {}, badge(run.status, run.status === "finished" ? "good" : run.status === "interrupted" ? "warn" : "quiet")),
    el("td", {}, num(run.step), run.kind === "GRPO" && run.iterations ? ` of ${num(run.iterations)}` : ""),
    el("td", {}, reward === null ? (loss === null ? "–" : `loss ${num(loss, 3)}`) : num(reward, 3)),
    el("td", {}, percent(success)), el("td", {}, percent(run.last.held_out)),
    el("td", {}, sparkline(run.curve, run.kind === "GRPO" ? "reward" : "loss")),
    el("td", {}, run.seconds_since_result === null ? "none yet" : EMBEDDED ? "–" : `${duration(run.seconds_since_result)} ago`));
}

function sparkline(values, what) {
  if (values.length < 2) return "–";
  const low = Math.min(...values);
  const span = Math.max(...values) - low || 1;
  const points = values.map((v, i) => `${(1 + (98 * i) / (values.length - 1)).toFixed(1)},${(21 - (20 * (v - low)) / span).toFixed(1)}`);
  return svg("svg", { class: "spark", width: 100, height: 22, role: "img", "aria-label": `${what} from ${num(values[0], 3)} to ${num(values.at(-1), 3)}` },
    svg("polyline", { points: points.join(" ") }));
}

/** The warm start and GRPO on one time line: loss, then reward, and held-out success over both. */
function historySection({ warm_start: warm, grpo }) {
  const parts = [warm, grpo].filter(Boolean);
  const all = parts.flatMap((part) => [...part.seconds, ...part.held_out.map((m) => m.seconds)]);
  if (!all.length) return null;
  const end = (part) => Math.max(0, ...part.seconds, ...part.held_out.map((m) => m.seconds));
  const range = [0, all.reduce((a, b) => Math.max(a, b))];
  const marks = warm ? [{ x: end(warm), text: "GRPO" }] : [];
  const common = { xName: "time_total_s", xLabel: "seconds", xRange: range, marks };
  const measured = (part, label, kind, key, dash) => {
    const rows = part.held_out.filter((m) => m[key] !== null && m[key] !== undefined);
    const column = (name) => rows.map((m) => m[name]);
    return rows.length ? [{ label, kind, dash, x: column("seconds"), y: column(key), ...(key === "success" ? { low: column("low"), high: column("high") } : {}) }] : [];
  };
  const rates = parts.flatMap((part) => {
    const [name, kind] = part === grpo ? ["GRPO", "k0"] : ["warm start", "k1"];
    return [...measured(part, name, kind, "success", false), ...measured(part, `${name}, greedy`, kind, "greedy", true)];
  });
  const curve = (part, title, label, kind, fromZero) => chart({ title, ...common, fromZero, series: [{ label, kind, x: part.seconds, y: part.values }] });
  return el("div", { class: "history" }, el("h2", {}, "From the warm start on"), beforeAfter(warm, grpo),
    el("section", { class: "charts lead", "aria-label": "from the warm start on" },
      warm && warm.values.length ? curve(warm, "Warm start: loss", "loss", "k1", true) : null,
      grpo.values.length ? curve(grpo, "GRPO: reward", "mean", "k0", false) : null,
      rates.length ? chart({ title: "Held out, over both", note: "with 95% intervals", ...common, fromZero: true, series: rates }) : null));
}

function beforeAfter(warm, grpo) {
  const [first, last] = [grpo.held_out[0] || (warm && warm.held_out.at(-1)), grpo.held_out.at(-1)];
  const said = (m) => [el("b", {}, percent(m.success)), m.low === null ? "" : ` [${Math.round(100 * m.low)}, ${Math.round(100 * m.high)}]`, m.greedy === null ? "" : `, greedy ${percent(m.greedy)}`];
  if (!first) return null;
  return el("p", { class: "sub" }, `held-out success, ${plural(first.n, "task")}: before GRPO `, said(first),
    last && last !== first && last.n === first.n ? [" · after ", said(last)] : " · after: not measured yet",
    " · seconds are of training; what the warm start's measurements took is left out");
}

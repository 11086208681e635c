"use strict";
// Things side by side: the members of a group, the same task in two runs, all tasks, settings.

async function groupView(state, query) {
  const run = Number(query.run || 0);
  const found = await ask("group", { run, step: query.step, group: query.group });
  return el("div", {}, groupHead(state, found, run), taskText(found.task_record), columns(found, run));
}

function groupHead(state, found, run) {
  const rewards = found.members.map((m) => m.reward);
  const mean = rewards.reduce((a, b) => a + b, 0) / rewards.length;
  const flat = rewards.every((r) => r === rewards[0]);
  return el("header", { class: "grouphead" }, el("h1", {}, found.task),
    el("p", { class: "sub" }, state.runs.length > 1 ? [el("i", { class: `swatch run${run}` }), `${state.runs[run].name} · `] : null,
      `step ${found.step} · group ${found.group} · ${plural(found.members.length, "member")} · mean reward ${num(mean)} · `,
      `${found.members.filter((m) => m.success).length} succeeded · the best paid first`, flat ? badge("all rewards equal: nothing to learn", "warn") : null));
}

function taskText(record) {
  if (!record) return null;
  const text = record.messages.filter((m) => m.role === "user").map((m) => asText(m.content)).join("\n");
  return el("section", { class: "message user" }, el("h3", {}, "user"), longText(text, "", 1200));
}

function columns(found, run) {
  const sorted = [...found.members].sort((a, b) => b.reward - a.reward || a.member - b.member);
  return el("div", { class: "columns" }, sorted.map((m) =>
    column(m, `member ${m.member}`, episodeAddress(run, { step: found.step, group: found.group, member: m.member }))));
}

async function taskView(state, query) {
  const found = await ask("task", { task: query.task });
  const record = found.groups.map((g) => g && g.task_record).find(Boolean) || null;
  return el("div", {}, el("h1", {}, found.task), taskText(record), found.groups.map((group, run) => el("section", {},
    el("h2", {}, state.runs.length > 1 ? el("i", { class: `swatch run${run}` }) : null, state.runs[run].name,
      group ? [` · newest group, step ${group.step} `, el("a", { class: "button", href: address("trajectories", { run: run || null, task: `"${found.task}"` }) }, "all its trajectories")] : " · never sampled here"),
    group ? columns(group, run) : null)));
}

async function tasksView(state, query) {
  const { tasks } = await ask("tasks", { step_from: query.step_from, step_to: query.step_to });
  const two = state.runs.length > 1;
  const sort = query.sort || (two ? "size" : "reward");
  const order = query.order || "desc";
  const page = Number(query.page || 0);
  const value = {
    task: (t) => t.task,
    reward: (t) => (t.runs[0] ? t.runs[0].reward : -Infinity), success: (t) => (t.runs[0] ? t.runs[0].success : -Infinity),
    n: (t) => (t.runs[0] ? t.runs[0].n : -1), change: (t) => (t.runs[0] && t.runs[1] ? t.runs[1].reward - t.runs[0].reward : -Infinity),
    size: (t) => (t.runs[0] && t.runs[1] ? Math.abs(t.runs[1].reward - t.runs[0].reward) : -Infinity),
    reward2: (t) => (t.runs[1] ? t.runs[1].reward : -Infinity), success2: (t) => (t.runs[1] ? t.runs[1].success : -Infinity), n2: (t) => (t.runs[1] ? t.runs[1].n : -1),
  };
  const wanted = (query.task || "").toLowerCase();
  const rows = tasks.filter((t) => t.task.toLowerCase().includes(wanted));
  const by = value[sort] || value.reward;
  rows.sort((a, b) => ((by(a) < by(b) ? -1 : by(a) > by(b) ? 1 : 0) * (order === "desc" ? -1 : 1)) || (a.task < b.task ? -1 : 1));
  const kept = { step_from: query.step_from, step_to: query.step_to, task: query.task, sort: query.sort, order: query.order };
  const change = (more) => go("tasks", { ...kept, ...more });
  const heads = [["task", "task"], ...(two
    ? [["n", "n A"], ["n2", "n B"], ["reward", "reward A"], ["reward2", "reward B"], ["change", "B − A"], ["success", "success A"], ["success2", "success B"]]
    : [["n", "episodes"], ["reward", "reward"], ["success", "success"]])];
  const field = (name, more) => el("input", { value: query[name] || "", onchange: (e) => change({ [name]: e.target.value, page: null }), ...more });
  const cell = (v) => el("td", { class: "right" }, v);
  const both = rows.filter((t) => t.runs.every(Boolean));
  return el("div", {},
    el("form", { class: "filters", onsubmit: (e) => e.preventDefault() },
      el("label", {}, "task", field("task", { id: "filter-task", type: "search", placeholder: "part of its id" })),
      el("label", {}, "step", field("step_from", { type: "number", class: "short", placeholder: "from" }), field("step_to", { type: "number", class: "short", placeholder: "to" }))),
    el("p", { class: "sub" }, plural(rows.length, "task"), two ? ` · ${num(both.length)} in both runs · A is ${state.runs[0].name}, B is ${state.runs[1].name}` : ""),
    el("div", { class: "scroll" }, el("table", { class: "list" }, el("thead", {}, el("tr", {}, heads.map(([name, text]) => el("th", { class: name === "task" ? "" : "right" },
      el("button", { class: "sort", type: "button", onclick: () => change({ sort: name, order: sort === name && order === "desc" ? "asc" : "desc", page: null }) }, text, sort === name ? (order === "desc" ? " ↓" : " ↑") : ""))))),
    el("tbody", {}, rows.slice(page * 100, page * 100 + 100).map((t) => {
      const [a, b] = t.runs;
      const href = address("task", { task: t.task });
      return el("tr", { class: "row", "data-href": href, onclick: (e) => { if (!e.target.closest("a")) location.hash = href; } },
        el("td", {}, el("a", { href, class: "open" }, t.task)),
        two ? [cell(a ? num(a.n) : "–"), cell(b ? num(b.n) : "–"), cell(a ? a.reward.toFixed(3) : "–"), cell(b ? b.reward.toFixed(3) : "–"),
          cell(a && b ? el("b", { class: tone(b.reward - a.reward) }, signed(b.reward - a.reward)) : "–"), cell(a ? percent(a.success) : "–"), cell(b ? percent(b.success) : "–")]
          : [cell(num(a.n)), cell(rewardBar(a.reward)), cell(percent(a.success))]);
    })))), pager(page, Math.ceil(rows.length / 100), (more) => change(more)));
}

async function configView(state) {
  const keys = [...new Set(state.runs.flatMap((run) => Object.keys(run.config)))];
  const two = state.runs.length > 1;
  const differs = (key) => two && state.runs[0].config[key] !== state.runs[1].config[key];
  const rows = [...keys.filter(differs), ...keys.filter((k) => !differs(k))];
  if (!rows.length) return el("div", { class: "blank" }, el("p", {}, "There is no readable config.yaml in this run."));
  return el("div", {}, two ? el("p", { class: "sub" }, `${plural(keys.filter(differs).length, "setting")} differ; these come first.`) : null,
    el("div", { class: "scroll" }, el("table", { class: "list config" }, el("thead", {}, el("tr", {}, el("th", {}, "setting"), state.runs.map((run, i) =>
      el("th", {}, two ? el("i", { class: `swatch run${i}` }) : null, run.name)))),
    el("tbody", {}, rows.map((key) => el("tr", { class: differs(key) ? "differs" : "" }, el("td", {}, el("code", {}, key)), state.runs.map((run) => el("td", {}, run.config[key] ?? "–"))))))));
}

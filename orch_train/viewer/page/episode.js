"use strict";
// One trajectory: the transcript, its score, its group, and its tokens when asked for.

async function episodeView(state, query) {
  const run = Number(query.run || 0);
  const key = { run, step: query.step, group: query.group, member: query.member };
  const found = await ask("episode", key);
  const { episode } = found;
  const accounts = accountsOf(episode.reward);
  const tokens = el("section", { class: "tokens", id: "tokens" });
  const show = () => toggleTokens(tokens, key, query);
  state.actions = {
    previous: found.previous ? () => { location.hash = episodeAddress(run, found.previous); } : null,
    next: found.next ? () => { location.hash = episodeAddress(run, found.next); } : null,
    tokens: show,
    group: () => go("group", { run: run || null, step: found.step, group: found.group }),
  };
  const page = el("div", { class: "reading" },
    el("div", { class: "transcript" },
      el("h1", {}, found.task),
      el("p", { class: "sub" }, state.runs.length > 1 ? [el("i", { class: `swatch run${run}` }), `${state.runs[run].name} · `] : null,
        `step ${found.step} · group `, el("a", { href: address("group", { run: run || null, step: found.step, group: found.group }) }, found.group),
        ` · member ${found.member}`),
      el("nav", { class: "steps" },
        stepLink("← previous", found.previous, run), stepLink("next →", found.next, run),
        el("button", { type: "button", id: "show-tokens", onclick: show }, "tokens", el("kbd", {}, "t")),
        el("a", { href: address("task", { task: found.task }), class: "button" }, "this task, newest groups")),
      tokens,
      messages(found.task_record, found.prompt),
      episode.turns.map((turn, n) => turnSection(turn, n, episode, accounts)),
      ending(episode)),
    el("aside", {}, scorePanel(found), groupPanel(found, run, state.runs[run].credit), goldTable(found.task_record, accounts), toolPanel(found.task_record)));
  if (query.tokens) await show();
  return page;
}

function stepLink(text, target, run) {
  return target ? el("a", { class: "button", href: episodeAddress(run, target) }, text) : el("span", { class: "button off" }, text);
}

function ending(episode) {
  const reason = (episode.stop_reason || "unfinished").replaceAll("_", " ");
  return el("p", { class: "ending" }, "ended: ", badge(reason, episode.stop_reason === "answered" ? "good" : "warn"), STOPS[episode.stop_reason] || "",
    episode.state ? el("details", {}, el("summary", {}, "what it changed in the servers"), longText(JSON.stringify(episode.state, null, 1))) : null);
}

function scorePanel(found) {
  const reward = found.episode.reward;
  const own = found.members.find((m) => m.member === found.member);
  const rows = [
    ["success", badge(found.success ? "yes" : "no", found.success ? "good" : "bad")],
    ["advantage", own && own.advantage !== null ? el("b", { class: tone(own.advantage) }, signed(own.advantage)) : "–"],
    ["stop", stopBadge(found)], ["turns", num(found.turns)], ["tokens written", num(found.tokens)],
    ...Object.entries(found.timings || {}).map(([name, s]) => [`${name} time`, `${num(s, 3)} s`]),
    ["environment seed", found.seed],
  ];
  const parts = Object.entries((reward && reward.components) || {});
  return el("section", { class: "panel score" },
    el("div", { class: "total" }, "reward ", el("b", {}, num(found.reward))),
    el("table", {}, rows.map(([k, v]) => el("tr", {}, el("th", {}, k), el("td", {}, v)))),
    parts.length ? el("table", { class: "parts" }, el("caption", {}, "components"),
      parts.map(([k, v]) => el("tr", {}, el("th", {}, k.replaceAll("_", " ")), el("td", {}, num(v))))) : null);
}

function groupPanel(found, run, credit) {
  const most = Math.max(...found.members.map((m) => Math.abs(m.advantage || 0)), 1e-9);
  return el("section", { class: "panel" }, el("h2", {}, "Its group"),
    el("table", { class: "group" }, el("tr", {}, ["member", "reward", "advantage", "turns"].map((h) => el("th", {}, h))),
      found.members.map((m) => el("tr", { class: m.member === found.member ? "current" : "" },
        el("td", {}, el("a", { href: episodeAddress(run, { ...found, member: m.member }) }, `${m.member}`), m.success ? el("span", { class: "good", title: "success" }, " ✓") : null),
        el("td", {}, num(m.reward)), el("td", {}, advantageBar(m.advantage, most)), el("td", {}, num(m.turns))))),
    el("p", { class: "hint" }, "Advantages of whole episodes, computed from the stored rewards by the run's settings.",
      credit && credit !== "trajectory" ? ` The run credits each ${credit}: its tokens differ from this.` : null),
    el("a", { class: "button", href: address("group", { run: run || null, step: found.step, group: found.group }) }, "side by side", el("kbd", {}, "g")));
}

function advantageBar(value, most) {
  if (value === null || value === undefined) return "–";
  const width = (Math.abs(value) / most) * 30;
  return el("span", { class: "bar" }, svg("svg", { width: 64, height: 12, "aria-hidden": "true" },
    svg("line", { class: "grid", x1: 32, x2: 32, y1: 0, y2: 12 }),
    svg("rect", { class: tone(value), x: value < 0 ? 32 - width : 32, y: 2, width, height: 8, rx: 1 })), ` ${signed(value, 2)}`);
}

// -- tokens --------------------------------------------------------------------------------------

async function toggleTokens(box, key, query) {
  if (box.childNodes.length) {
    box.replaceChildren();
    rewriteAddress("episode", { ...query, tokens: null });
    return;
  }
  box.append(el("p", { class: "hint" }, "reading…"));
  try {
    box.replaceChildren(tokenPanel(await ask("tokens", key)));
    rewriteAddress("episode", { ...query, tokens: 1 });
  } catch (problem) {
    box.replaceChildren(el("p", { class: "problem" }, problem.message));
  }
}

function tokenPanel(data) {
  const acted = data.logprobs.filter((v) => v !== null);
  const versions = [...new Set(data.versions.filter((v) => v >= 0))].sort((a, b) => a - b);
  const mean = acted.reduce((a, b) => a + b, 0) / (acted.length || 1);
  const stream = el("div", { class: "stream by-logprob", tabindex: "0" });
  const readout = el("p", { class: "token-readout", "aria-live": "polite" }, "point at a token, or use ← → inside the stream");
  let at = 0;
  for (const [start, end] of data.turns) {
    if (start > at) stream.append(contextSpan(data, at, start));
    for (let i = start; i < end; i += 1) stream.append(tokenSpan(data, i, versions));
    at = end;
  }
  if (at < data.ids.length) stream.append(contextSpan(data, at, data.ids.length));
  connect(stream, readout, data);
  const colour = el("select", { "aria-label": "colour tokens by", onchange: (e) => { stream.className = `stream ${e.target.value}`; } },
    el("option", { value: "by-logprob" }, "log-probability"), el("option", { value: "by-version" }, "weight version"), el("option", { value: "by-mask" }, "action mask"));
  return el("div", { class: "panel" },
    el("h2", {}, "Tokens"),
    el("p", { class: "sub" }, `${num(data.ids.length)} tokens, ${num(acted.length)} sampled by the model; mean log-probability ${num(mean, 3)}; `,
      versions.length > 1 ? `weight versions ${versions[0]} to ${versions.at(-1)}` : `weight version ${versions[0] ?? "–"}`,
      data.text ? "" : "; the tokenizer is not at hand, so ids are shown"),
    el("p", {}, "colour by ", colour, el("span", { class: "scale" }, " sure ", [0, 1, 2, 3, 4, 5].map((b) => el("i", { class: `p${b}` })), " unlikely"),
      el("span", { class: "hint" }, " grey: context (mask 0), click to open")),
    readout, stream);
}

function shownToken(data, i) {
  return data.text ? data.text[i] : `${data.ids[i]} `;
}

function visible(text) {
  return text.replaceAll("\n", "⏎\n").replaceAll("\t", "⇥");
}

function tokenSpan(data, i, versions) {
  const p = Math.exp(data.logprobs[i] ?? 0);
  const bin = p > 0.95 ? 0 : p > 0.8 ? 1 : p > 0.5 ? 2 : p > 0.2 ? 3 : p > 0.05 ? 4 : 5;
  return el("span", { class: `tok act p${bin} v${versions.indexOf(data.versions[i]) % 6}`, "data-i": i }, visible(shownToken(data, i)));
}

/** Context is one span, and falls into its tokens when it is clicked. */
function contextSpan(data, start, end) {
  const texts = [];
  for (let i = start; i < end; i += 1) texts.push(shownToken(data, i));
  const whole = visible(texts.join(""));
  const shown = whole.length > 300 ? `${whole.slice(0, 100)} … ${num(end - start)} tokens … ${whole.slice(-100)}` : whole;
  const span = el("span", { class: "ctx", role: "button", title: `${end - start} context tokens, positions ${start} to ${end - 1}` }, shown);
  span.addEventListener("click", () => {
    const each = [];
    for (let i = start; i < end; i += 1) each.push(el("span", { class: "tok out", "data-i": i }, visible(shownToken(data, i))));
    span.replaceWith(...each);
  }, { once: true });
  return span;
}

function connect(stream, readout, data) {
  let marked = null;
  const tell = (node) => {
    if (marked) marked.classList.remove("marked");
    marked = node;
    node.classList.add("marked");
    const i = Number(node.dataset.i);
    const lp = data.logprobs[i];
    readout.replaceChildren(`position ${i} · id ${data.ids[i]} · ${JSON.stringify(shownToken(data, i))} · `,
      lp === null ? "mask 0 (context): no log-probability, no weight version"
        : `mask 1 (action) · log-probability ${lp.toFixed(4)} (p ${num(Math.exp(lp), 3)}) · weight version ${data.versions[i]}`);
  };
  stream.addEventListener("pointerover", (e) => { if (e.target.dataset && e.target.dataset.i) tell(e.target); });
  stream.addEventListener("keydown", (e) => {
    if (e.key !== "ArrowRight" && e.key !== "ArrowLeft") return;
    e.preventDefault();
    e.stopPropagation();
    const all = [...stream.querySelectorAll(".tok")];
    const next = all[Math.min(all.length - 1, Math.max(0, all.indexOf(marked) + (e.key === "ArrowRight" ? 1 : -1)))];
    if (next) {
      tell(next);
      next.scrollIntoView({ block: "nearest" });
    }
  });
}

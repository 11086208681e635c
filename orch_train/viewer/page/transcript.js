"use strict";
// An episode as a person reads it: what was asked, what the model wrote, what came back, and what
// each call earned.

const STATUS_MARKS = { equal: "=", type: "≈", wrong: "≠", missing: "∅", unknown: "?" };

function messages(record, prompt) {
  if (record) {
    return record.messages.map((m) => el("section", { class: `message ${m.role === "user" ? "user" : "system"}` },
      el("h3", {}, String(m.role)), longText(asText(m.content), "", 4000)));
  }
  if (prompt) {
    return [el("section", { class: "message system" }, el("h3", {}, "prompt, as the model read it"), longText(prompt, "", 3000))];
  }
  return [el("p", { class: "hint" }, "The task's text is not at hand: the run's task file and tokenizer were not found here.")];
}

function asText(content) {
  return typeof content === "string" ? content : JSON.stringify(content, null, 1);
}

/** The accounts of a reward by "turn/index". */
function accountsOf(reward) {
  return new Map(((reward && reward.calls) || []).map((a) => [`${a.turn}/${a.index}`, a]));
}

/** A sentence of a reward with its numbers of calls and turns from 1 on, as everywhere on the page. */
function counted(why) {
  return why.replace(/\b(gold call |gold \(number |call of turn )(\d+)/g, (_, before, n) => `${before}${Number(n) + 1}`);
}

function turnSection(turn, number, episode, accounts) {
  const reward = episode.reward || {};
  const share = reward.turns ? reward.turns[number] : null;
  const answer = turn.calls.length === 0;
  return el("section", { class: "message assistant", id: `turn-${number}`, tabindex: "-1" },
    el("h3", {}, `assistant · turn ${number + 1}`, share === null || share === undefined ? null
      : badge(signed(share), tone(share), "this turn's share of the reward")),
    answer ? longText(turn.action, "said", 4000) : thoughts(turn),
    turn.calls.map((call, i) => callCard(call, turn.results[i] || "", accounts.get(`${number}/${i}`), reward, `${number + 1}.${i + 1}`)),
    answer && turn.observation ? el("div", {}, el("h3", {}, "user"), longText(turn.observation, "user")) : null,
    answer ? null : el("details", { class: "raw" }, el("summary", {}, "as written, and as the model read the results"),
      longText(turn.action, ""), turn.observation ? longText(turn.observation, "") : null));
}

/** What the model wrote around its calls. */
function thoughts(turn) {
  const text = turn.action.replace(/<tool_call>[\s\S]*?(<\/tool_call>|$)/g, "").trim();
  return text ? longText(text, "said") : null;
}

function callCard(call, result, account, reward, where) {
  const credit = account && reward.turns ? account.credit : null;
  return el("article", { class: `call ${call.error ? "failed" : ""}` },
    el("header", {}, el("code", { class: "name" }, call.name || "unreadable call"),
      call.error ? badge(call.error.replaceAll("_", " "), "bad") : null,
      credit === null ? null : badge(signed(credit), tone(credit), "what this call adds to the reward"),
      el("span", { class: "where" }, `call ${where}`)),
    Object.keys(call.arguments || {}).length ? argumentTable(call.arguments, account) : null,
    account ? accountLine(account) : null,
    el("div", { class: "result" }, longText(pretty(result), call.error ? "error" : "", 700)));
}

/** A JSON result with line breaks; whatever else it is, as it came. */
function pretty(text) {
  if (text.length > 200000 || !/^\s*[[{]/.test(text)) return text;
  try {
    const shown = JSON.stringify(JSON.parse(text), null, 1);
    return shown.length < 400 ? shown.replace(/\n\s*/g, " ") : shown;
  } catch {
    return text;
  }
}

function argumentTable(args, account) {
  const status = (account && account.arguments) || {};
  const rows = Object.entries(args).map(([name, value]) => {
    const pointer = `/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`;
    const below = Object.entries(status).filter(([p]) => p === pointer || p.startsWith(`${pointer}/`));
    return el("tr", {}, el("th", {}, name), el("td", {}, el("code", {}, typeof value === "string" ? value : JSON.stringify(value))),
      el("td", {}, below.map(([p, s]) => statusBadge(s, p === pointer ? null : p.slice(pointer.length)))));
  });
  const missing = Object.entries(status).filter(([p, s]) => s === "missing" && !(p.split("/")[1].replaceAll("~1", "/").replaceAll("~0", "~") in args));
  for (const [p, s] of missing) rows.push(el("tr", {}, el("th", {}, p.slice(1)), el("td", {}, "–"), el("td", {}, statusBadge(s, null))));
  return el("table", { class: "arguments" }, rows);
}

function statusBadge(status, pointer) {
  return el("span", { class: `status ${status}` }, `${STATUS_MARKS[status] || "·"} ${pointer ? `${pointer} ` : ""}${status}`);
}

function accountLine(account) {
  return el("p", { class: "account" },
    account.gold === null ? badge("no gold call", "quiet") : badge(`gold call ${account.gold + 1}`, "gold"),
    meter("atomic", account.atomic), meter("orchestration", account.orchestration), el("span", { class: "why" }, counted(account.why)));
}

function meter(name, value) {
  return el("span", { class: "meter", title: `${name}: ${num(value)}` }, name, " ",
    el("progress", { max: 1, value, "aria-label": name }), " ", el("b", {}, value.toFixed(2)));
}

function goldTable(record, accounts) {
  if (!record || !record.gold || !record.gold.length) return null;
  const used = new Map([...accounts.values()].filter((a) => a.gold !== null).map((a) => [a.gold, a]));
  let number = -1;
  const rows = record.gold.flatMap((step, s) => step.map((call) => {
    number += 1;
    const account = used.get(number);
    return el("tr", { class: account ? "" : "unmatched" }, el("td", {}, number + 1), el("td", {}, `step ${s + 1}`),
      el("td", {}, el("code", {}, call.name), call.optional ? badge("optional", "quiet") : null,
        el("div", { class: "small" }, Object.entries(call.arguments || {}).map(([k, v]) => `${k}=${typeof v === "string" ? v : JSON.stringify(v)}`).join(", "))),
      el("td", {}, account ? el("a", { href: "#", onclick: (e) => { e.preventDefault(); focusTurn(account.turn); } }, `turn ${account.turn + 1}`) : "not made"));
  }));
  return el("details", { class: "panel", open: true }, el("summary", {}, `Gold calls (${used.size} of ${number + 1} made)`),
    el("table", { class: "gold" }, rows));
}

/** The names of the tools that the task offers. */
function toolPanel(record) {
  const names = ((record && record.tools) || []).map((t) => (typeof t === "string" ? t : t.name));
  return names.length ? el("details", { class: "panel" }, el("summary", {}, `Tools offered (${names.length})`),
    names.map((name) => el("div", {}, el("code", {}, name)))) : null;
}

function focusTurn(number) {
  const turn = document.getElementById(`turn-${number}`);
  if (turn) {
    turn.scrollIntoView({ block: "start" });
    turn.focus({ preventScroll: true });
  }
}

/** A transcript narrow enough to stand beside others. */
function column(member, heading, target) {
  const episode = member.episode;
  const accounts = accountsOf(episode.reward);
  return el("article", { class: "column" },
    el("header", {}, el("a", { href: target, class: "strong" }, heading), el("div", {},
      badge(`reward ${num(member.reward)}`, member.success ? "good" : ""),
      member.advantage === null || member.advantage === undefined ? null
        : badge(`advantage ${signed(member.advantage)}`, tone(member.advantage)),
      stopBadge(member))),
    episode.turns.map((turn, n) => el("section", { class: "brief" },
      el("h3", {}, `turn ${n + 1}`),
      turn.calls.length === 0 ? longText(turn.action, "said", 500) : null,
      turn.calls.map((call, i) => briefCall(call, turn.results[i] || "", accounts.get(`${n}/${i}`), episode.reward || {})))));
}

function briefCall(call, result, account, reward) {
  const credit = account && reward.turns ? account.credit : null;
  return el("details", { class: `call ${call.error ? "failed" : ""}` },
    el("summary", {}, el("code", { class: "name" }, call.name || "unreadable call"),
      call.error ? badge(call.error.replaceAll("_", " "), "bad") : null,
      credit === null ? null : badge(signed(credit), tone(credit)),
      el("div", { class: "small" }, Object.entries(call.arguments || {}).map(([k, v]) => `${k}=${typeof v === "string" ? v : JSON.stringify(v)}`).join(", "))),
    account ? accountLine(account) : null,
    longText(pretty(result), call.error ? "error" : "", 600));
}

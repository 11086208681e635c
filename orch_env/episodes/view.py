"""An episode for people: a transcript in plain text, or one self-contained HTML page.

The page escapes everything that a model or an API wrote and loads nothing, so it is safe to open.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterator

from orch_env.types import CallAccount, Episode, RewardBreakdown, Task, ToolCall
from orch_env.types.json import Json, escape
from orch_env.types.text import message_text, shortened

_RESULT_CHARS = 2_000
"""Characters of a result in the text transcript; the page holds all of it."""

_LONG_CHARS = 600
"""A result of more characters is folded in the page; a changed record is cut to them."""
_LISTED = 20
"""Changed records that are listed."""

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#1c1e21;background:#fff}
h1{font-size:1.2rem}h2{font-size:.8rem;color:#667;margin:1.4rem 0 .3rem;text-transform:uppercase}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#f5f6f8;border-radius:6px;
padding:.6rem .8rem;margin:.3rem 0;font-size:13px}
.user{background:#eaf2ff}.bad{background:#fdecea}.call{background:#eef7ee}
.tag{font-size:12px;border-radius:4px;padding:0 .4rem;background:#e4e6ea}
table{border-collapse:collapse;font-size:13px}td,th{text-align:left;padding:.15rem .8rem .15rem 0}
@media(prefers-color-scheme:dark){body{background:#16181b;color:#dde}pre{background:#22262b}
.user{background:#1c2b40}.bad{background:#40211f}.call{background:#1e3324}.tag{background:#333941}}
"""


def episode_text(task: Task, episode: Episode) -> str:
    """A readable transcript; long results are cut. Lone surrogates are shown as ``?``."""
    lines, reward = [f"task {task.id}"], episode.reward
    accounts = _accounts(reward)
    for message in task.messages:
        lines += [f"[{message.get('role')}]", _indent(message_text(message.get("content")))]
    for number, turn in enumerate(episode.turns):
        lines += [f"[assistant, turn {number}{_share(reward, number)}]", _indent(turn.action)]
        for index, exchange in enumerate(turn.exchanges):
            call, result = exchange.call, exchange.result.text
            lines += [f"[{_headline(call)}]", _indent(_cut_result(result))]
            account = accounts.get((number, index))
            if account is not None:
                lines.append(f"  -> {_earned(account, reward)}{account.why}")
        if not turn.exchanges and turn.observation:
            lines += ["[user]", _indent(turn.observation)]
    lines += list(_verdict(episode))
    return "\n".join(lines).encode("utf-8", "replace").decode()


def episode_html(task: Task, episode: Episode) -> str:
    """An HTML page: messages, calls, results, and what each call earned."""
    reward = episode.reward
    accounts = _accounts(reward)
    parts = [f"<h1>{_escaped(task.id)}</h1>"]
    for message in task.messages:
        parts.append(f"<h2>{_escaped(str(message.get('role')))}</h2>")
        parts.append(_pre(message_text(message.get("content")), "user"))
    for number, turn in enumerate(episode.turns):
        heading = f"assistant, turn {number}{_share(reward, number)}"
        parts += [f"<h2>{heading}</h2>", _pre(turn.action)]
        for index, exchange in enumerate(turn.exchanges):
            call, result = exchange.call, exchange.result.text
            parts += _call_html(call, result, accounts.get((number, index)), reward)
        if not turn.exchanges and turn.observation:
            parts += ["<h2>user</h2>", _pre(turn.observation, "user")]
    parts.append(_ending_html(episode, reward))
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{_escaped(task.id)}</title><style>{_STYLE}</style></head>\n<body>\n{body}\n"
        "</body></html>\n"
    )


def _accounts(reward: RewardBreakdown | None) -> dict[tuple[int, int], CallAccount]:
    return {} if reward is None else {(a.turn, a.index): a for a in reward.calls}


def _share(reward: RewardBreakdown | None, turn: int) -> str:
    """A turn's share of the total, where the reward was attributed."""
    shares = None if reward is None else reward.turns
    return "" if shares is None or turn >= len(shares) else f": {shares[turn]:+.3f}"


def _earned(account: CallAccount, reward: RewardBreakdown | None) -> str:
    """A call's credit, where the reward was attributed."""
    return "" if reward is None or reward.turns is None else f"{account.credit:+.3f} "


def _call_html(
    call: ToolCall, result: str, account: CallAccount | None, reward: RewardBreakdown | None
) -> Iterator[str]:
    yield f'<p><span class="tag">{_escaped(_headline(call))}</span></p>'
    if call.arguments:
        yield _pre(json.dumps(call.arguments, indent=1, ensure_ascii=False), "call")
    shown = _pre(result, "" if call.ok else "bad")
    if len(result) > _LONG_CHARS:
        shown = f"<details><summary>{len(result):,} characters</summary>{shown}</details>"
    yield shown
    if account is not None:
        gold = "no gold call" if account.gold is None else f"gold call {account.gold}"
        yield (
            f"<p><b>{_earned(account, reward)}</b>{_escaped(gold)} · atomic {account.atomic:.3f} · "
            f"orchestration {account.orchestration:.3f} · {_escaped(account.why)}</p>"
        )


def _ending_html(episode: Episode, reward: RewardBreakdown | None) -> str:
    rows = [f"<tr><th>{_escaped(line)}</th></tr>" for line in _verdict(episode)]
    if reward is not None:
        rows += [
            f"<tr><td>{_escaped(name)}</td><td>{value:.6g}</td></tr>"
            for name, value in reward.components.items()
        ]
    return f"<h2>end</h2><table>{''.join(rows)}</table>"


def _verdict(episode: Episode) -> Iterator[str]:
    reason = episode.stop_reason
    yield "still running" if reason is None else f"ended: {reason.value}"
    yield from _changed(episode.state)
    if episode.reward is not None:
        yield f"reward: {episode.reward.total:.6g}"


def _changed(state: Json) -> Iterator[str]:
    """A line for each of the first records that the episode changed."""
    records = list(_records(state))
    if state is not None:
        yield f"state: {len(records) or 'no'} record{'s' * (len(records) != 1)} changed"
    for path, record in records[:_LISTED]:
        text = "deleted" if record is None else json.dumps(record, ensure_ascii=False)
        yield f"  {path} = {shortened(text, _LONG_CHARS)}"
    if len(records) > _LISTED:
        yield f"  and {len(records) - _LISTED} more"


def _records(state: Json, path: str = "", level: int = 3) -> Iterator[tuple[str, Json]]:
    if level and isinstance(state, dict):
        for key, below in state.items():
            yield from _records(below, f"{path}/{escape(str(key))}", level - 1)
    elif path:
        yield path, state


def _headline(call: ToolCall) -> str:
    name = call.name or "unreadable call"
    return name if call.error is None else f"{name}: {call.error.value}"


def _cut_result(text: str) -> str:
    if len(text) <= _RESULT_CHARS:
        return text
    return f"{text[:_RESULT_CHARS]}\n... {len(text) - _RESULT_CHARS:,} more characters"


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.split("\n"))


def _pre(text: str, kind: str = "") -> str:
    return f'<pre class="{kind}">{_escaped(text)}</pre>' if kind else f"<pre>{_escaped(text)}</pre>"


def _escaped(text: str) -> str:
    return html.escape(text.encode("utf-8", "replace").decode())

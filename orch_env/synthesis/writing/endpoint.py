"""A writer that asks a language model behind an endpoint.

The model gets the plan and never the trace: no id, token or other value that a later call reads
from an output can reach its text.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence

from orch_env.endpoint import Endpoint
from orch_env.provenance.information import folded
from orch_env.servers.framework.chance import Chance
from orch_env.synthesis.writing.grammar.wording import argument_name
from orch_env.synthesis.writing.plan import Plan, Selection, Written
from orch_env.types.json import Json, JsonObject

_PERSONAS = (
    "a busy person who writes in few words",
    "a friendly person who explains why they ask",
    "a careful person who writes full sentences",
    "a person who types as they speak",
    "someone who asks on behalf of their family",
    "an assistant who asks for their boss",
)
_LONGEST = 1500
"""Characters of a request."""
_ROUNDS = 3
"""Times that a plan is put to the model, with what was wrong, before it is refused."""
_SYSTEM = """You write what a person would type to an assistant that can call tools.
You get a list of things that the person wants, in JSON. Write one message that asks for all of
them, each once, in their order. Say every value under "say" so that it can be read out of the
message; dates may be said in any way that is clear from the day given as "today" (say that day,
too, if you use "tomorrow" or leave out a year). Where "about" names something, name it the same
way. Do not name tools, do not invent values, no lists, no headings. Answer with the message
alone."""

Ask = Callable[[Sequence[JsonObject]], list[tuple[str, str | None]]]
"""Requests ``{messages, seed}`` -> (text, error) of each."""


class PromptedWriter:
    """Puts plans to a language model, and looks at what comes back.

    Args:
        name: the writer's name.
        ask: asks the model.

    Attributes:
        refusals: reason -> answers that were not taken, over all rounds.
    """

    def __init__(self, name: str, ask: Ask) -> None:
        self.name = name
        self._ask = ask
        self.refusals: Counter[str] = Counter()

    def write(self, plans: Sequence[Plan]) -> list[Written]:
        """One text per plan; a plan whose answers are all unusable is refused."""
        written: dict[int, Written] = {}
        problems: dict[int, str] = {}
        texts: set[str] = set()
        left = list(range(len(plans)))
        for round_ in range(_ROUNDS):
            requests = [prompt_of(plans[n], round_, problems.get(n)) for n in left]
            for n, (text, error) in zip(left, self._ask(requests), strict=True):
                reason = error or _wrong(text)
                if reason is None and folded(text) in texts:
                    reason = "same_text"
                if reason is None:
                    texts.add(folded(text))
                    written[n] = Written(text.strip())
                else:
                    problems[n] = reason
                    self.refusals[reason] += 1
            left = [n for n in left if n not in written and problems[n] != "spend_limit"]
            if not left:
                break
        return [written.get(n) or Written(None, problems[n]) for n in range(len(plans))]


class EndpointWriter(PromptedWriter):
    """The writer ``endpoint``.

    Args:
        endpoint: the client.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__("endpoint", self._answers)
        self.endpoint = endpoint

    def close(self) -> None:
        """Close the endpoint."""
        self.endpoint.close()

    def _answers(self, requests: Sequence[JsonObject]) -> list[tuple[str, str | None]]:
        return [(answer.text, answer.error) for answer in self.endpoint.ask(requests)]


def prompt_of(plan: Plan, round_: int = 0, problem: str | None = None) -> JsonObject:
    """The request to a model for one plan.

    Args:
        plan: the plan.
        round_: how often it was asked before; changes the seed.
        problem: what was wrong with the last answer.
    """
    chance = Chance(plan.seed)
    wanted: JsonObject = {
        "person": chance.pick(_PERSONAS),
        "today": plan.today.isoformat() if plan.today is not None else None,
        "wants": [_wish(plan, number) for number in range(len(plan.calls))],
    }
    content = json.dumps(wanted, ensure_ascii=False, indent=1)
    if problem is not None:
        content += f"\n\nYour last answer could not be used: {problem.replace('_', ' ')}."
    return {
        "messages": [
            {"role": "system", "content": _SYSTEM},
            {"role": "user", "content": content},
        ],
        "seed": plan.seed + round_,
    }


def _wish(plan: Plan, number: int) -> JsonObject:
    call = plan.calls[number]
    said = {argument_name(a): a.value for a in call.arguments if not a.silent}
    about = [_about(plan, selection) for selection in call.selections]
    wish: JsonObject = {
        "number": number,
        "what": plan.specs[call.tool].description or call.tool.replace("_", " "),
        "result_is_wanted": call.goal,
    }
    if said:
        wish["say"] = said
    if about:
        wish["about"] = about
    return wish


def _about(plan: Plan, selection: Selection) -> Json:
    """What a call is about, by the number of an earlier wish and a name that may be said."""
    found: JsonObject = {"result_of": selection.parent}
    if selection.how == "label":
        found["named"] = selection.label
    elif selection.how == "position":
        found["number_in_the_list"] = selection.position + 1
    return found


def _wrong(text: str) -> str | None:
    """Why a text is no request."""
    if not text.strip():
        return "empty"
    if len(text) > _LONGEST:
        return "too_long"
    if any(mark in text for mark in ("```", "{", "}", "<|", "</")):
        return "markup"
    return None

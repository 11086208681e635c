"""Whether a closing answer is gold's: the rules that a task or a configuration can choose from.

One answer is one guess: a rule that looks for the right value anywhere in the text would reward
listing candidates. So ``numeric`` takes an answer with a single number, and ``set`` one that names
all items and no others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from orch_env.rewards.compose.user_function import load_function
from orch_env.rewards.options import at_least_0
from orch_env.rewards.outcome.answer_text import item_sets, normalised, numbers_in
from orch_env.types import OrchError, Task
from orch_env.types.json import Json, parse_json
from orch_env.types.text import shortened
from orch_env.types.user_code import defined_at, number_in, told
from orch_env.values import values_equal


class Match(StrEnum):
    """How an answer is compared with gold's."""

    AUTO = "auto"
    """As ``values`` says, or equal as normalised text, lists and objects apart: ``42``, ``"42"``,
    ``42.0`` and ``42.`` answer 42, ``oslo.`` answers ``Oslo``."""
    VALUES = "values"
    """Equal by ``values.py`` as text or as the JSON value it spells, and no other way."""
    EXACT = "exact"
    """The same text, blanks around it aside; a gold that is no text: the same JSON value."""
    NORMALISED = "normalised"
    """The same words: case, blanks, punctuation and Unicode's spelling variants aside, see
    :func:`~orch_env.rewards.outcome.answer_text.normalised`. Articles count: they are words of one
    language, and a grade may be an A."""
    NUMERIC = "numeric"
    """The one number in the text, within a tolerance. Numbers that the user's own words hold are
    passed over (``3 nights cost 420``), unless gold's number is one of them; an answer with
    several different numbers left does not count."""
    SET = "set"
    """All and only gold's items, in any order: a JSON list, or text split at newlines, commas,
    semicolons and ``and``."""
    JUDGE = "judge"
    """A function of the user's decides: ``(task, answer) -> bool`` or a number in 0..1."""


@dataclass(frozen=True, slots=True)
class AnswerRule:
    """How a closing answer is compared with gold's.

    A task may name another rule for its own answer, ``metadata["answer_match"]`` (a name or an
    object like here). It knows what kind of answer it asks for, so its rule replaces every other
    one except a judge, which the user chose by name. A task cannot name a judge.

    Attributes:
        match: see :class:`Match`.
        tolerance: largest allowed difference from gold's number (``numeric``).
        relative: the same as a share of gold's number; the larger of both applies.
        judge: ``module:function`` (``judge``); from a user's configuration only.
    """

    match: Match = Match.AUTO
    tolerance: float = 0.0
    relative: float = 0.0
    judge: str | None = None

    @classmethod
    def from_dict(cls, spec: str | Mapping[str, Any], where: str = "option 'answer'") -> AnswerRule:
        """Read a rule from plain data, and import its judge.

        Args:
            spec: ``"set"``, or ``{"match": "numeric", "tolerance": 0.01}``, or
                ``{"match": "judge", "judge": "my_module:my_function"}``.
            where: what the data are, for errors.

        Raises:
            OrchError: an unknown rule or key, a bad number, a key that the rule does not take, or
                a judge that cannot be imported.
        """
        options = {"match": spec} if isinstance(spec, str) else spec
        if not isinstance(options, Mapping):
            raise OrchError(f"{where} must be a rule's name or an object, got {spec!r}")
        match = _match(options.get("match", Match.AUTO), where)
        takes = {"match", *_OPTIONS.get(match, ())}
        unknown = [str(key) for key in options if key not in takes]
        if unknown:
            raise OrchError(
                f"{where}: the rule {match.value!r} takes no {unknown[0]!r}; it takes "
                f"{', '.join(sorted(takes))}"
            )
        judge = options.get("judge")
        if match is Match.JUDGE:
            if not isinstance(judge, str):
                raise OrchError(
                    f"{where}: the rule 'judge' needs 'judge': \"module:function\", got {judge!r}"
                )
            _load_judge(judge)
        return cls(
            match,
            tolerance=at_least_0(options.get("tolerance", 0.0), f"{where}: 'tolerance'"),
            relative=at_least_0(options.get("relative", 0.0), f"{where}: 'relative'"),
            judge=judge,
        )

    def for_task(self, task: Task) -> AnswerRule:
        """The rule that decides about this task's answer.

        Raises:
            OrchError: the task's ``answer_match`` is no rule, or a judge.
        """
        own = task.metadata.get("answer_match")
        if own is None or self.match == Match.JUDGE:
            return self
        where = f"task {task.id!r}: metadata 'answer_match'"
        named = own.get("match") if isinstance(own, Mapping) else own
        if named == Match.JUDGE:
            raise OrchError(f"{where} names a judge; only a configuration may do that")
        return AnswerRule.from_dict(own, where)

    def score(self, task: Task, final: str | None) -> float:
        """How right a closing answer is.

        Args:
            task: a task that has an answer.
            final: the closing answer, ``None`` if there was none, which is 0.

        Returns:
            0.0 or 1.0; a judge's own number in 0..1.

        Raises:
            OrchError: the judge failed or returned no number in 0..1, or the rule does not fit
                gold's answer (``numeric``, and gold is no number).
        """
        if not isinstance(final, str):
            return 0.0
        rule = self.for_task(task)
        gold = task.answer
        if rule.match == Match.JUDGE:
            return rule._judged(task, final)
        if rule.match == Match.VALUES:
            return float(_same_value(gold, final.strip()))
        if rule.match == Match.EXACT:
            return float(_exact(gold, final))
        if rule.match == Match.NORMALISED:
            return float(normalised(_text_of(gold)) == normalised(final))
        if rule.match == Match.NUMERIC:
            return float(rule._numeric(task, final))
        if rule.match == Match.SET:
            wanted = item_sets(gold)
            return float(any(items in wanted for items in item_sets(final)))
        return float(_auto(gold, final))

    def _numeric(self, task: Task, final: str) -> bool:
        gold = task.answer
        wanted = numbers_in(gold) if isinstance(gold, str) else [gold]
        if len(wanted) != 1 or isinstance(gold, bool) or not isinstance(wanted[0], int | float):
            raise OrchError(
                f"task {task.id!r}: its answer {shortened(repr(gold), 80)} is no number, which "
                "the rule 'numeric' needs; name another rule in the task's metadata 'answer_match'"
            )
        said = numbers_in(task.query)
        if not any(self._near(wanted[0], number) for number in said):
            left = [n for n in numbers_in(final) if n not in said]
        else:
            left = numbers_in(final)
        return len(set(left)) == 1 and self._near(wanted[0], left[0])

    def _near(self, gold: float, number: float) -> bool:
        if values_equal(gold, number):
            return True
        try:
            return abs(number - gold) <= max(self.tolerance, self.relative * abs(gold))
        except OverflowError:  # an integer beyond what a double holds, and a fraction
            return False

    def _judged(self, task: Task, final: str) -> float:
        judge = _load_judge(str(self.judge))
        try:
            value = judge(task, final)
        except (Exception, SystemExit) as problem:  # a user's function may fail in any way
            raise OrchError(
                f"answer judge {self.judge!r} failed on task {task.id!r} ({told(problem)}); it "
                "must judge whatever a model says"
            ) from problem
        number = number_in(value)
        if not 0.0 <= number <= 1.0:
            raise OrchError(
                f"answer judge {self.judge!r} returned {shortened(repr(value), 80)} on task "
                f"{task.id!r}; it must return true, false or a number in 0..1{defined_at(judge)}"
            )
        return number


_OPTIONS = {Match.NUMERIC: ("tolerance", "relative"), Match.JUDGE: ("judge",)}


def _auto(gold: Json, final: str) -> bool:
    if _same_value(gold, final.strip()):
        return True
    return not isinstance(gold, dict | list) and normalised(_text_of(gold)) == normalised(final)


def _same_value(gold: Json, text: str) -> bool:
    return values_equal(gold, text) or values_equal(gold, parse_json(text, text))


def _exact(gold: Json, final: str) -> bool:
    if isinstance(gold, str):
        return gold.strip() == final.strip()
    try:
        return json.dumps(gold, sort_keys=True) == json.dumps(json.loads(final), sort_keys=True)
    except (ValueError, RecursionError):
        return False


def _text_of(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _match(name: object, where: str) -> Match:
    if isinstance(name, str) and name in set(Match):
        return Match(name)
    raise OrchError(f"{where}: there is no rule {name!r}; the rules are {', '.join(Match)}")


def _load_judge(path: str) -> Any:
    return load_function(path, takes=("task", "answer"), role="answer judge")

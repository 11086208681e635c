"""The second edition of the graduated reward against a slow one written from docs/rewards.md.

As in the first edition's: no caches, no indexes, no assignment solver. Totals agree but for the
order in which floats are summed.
"""

from __future__ import annotations

import json
import math
import random
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orch_env import Episode, GoldCall, Provenance, Task, ToolCall, ToolSpec, ValueRef, make_reward
from orch_env.rewards.matching.arguments import EQUAL, Comparison, compare_calls
from orch_env.rewards.matching.text_index import TextIndex
from orch_env.rewards.outcome import AnswerRule, read_outcome
from orch_env.types import ToolResult, Turn
from orch_env.types.json import Json, JsonObject, leaves, resolve
from orch_env.values import (
    SchemaRules,
    canonical_by_schema,
    canonical_text,
    canonical_text_by_schema,
    likeness,
    stated,
    values_equal,
)
from tests.orch_env.any_episode import any_episode, any_world
from tests.orch_env.reward_world import World
from tests.orch_env.test_graduated_reference import ECHOES, Made, best_choice, parts

NEAR = 2.0**-38
"""How far sums of floats in another order may lie apart."""


def rules_of(task: Task, name: str) -> SchemaRules | None:
    """The rules of a tool's arguments, in which dates and times may be spelt otherwise."""
    spec = task.tool_spec(name)
    return SchemaRules.of(None if spec is None else spec.parameters, respelt=True)


def key_of(task: Task, name: str, arguments: JsonObject) -> str:
    return name + canonical_text_by_schema(arguments, rules_of(task, name))


def given_leaves(task: Task, name: str, arguments: JsonObject) -> dict[str, Json]:
    given = stated(arguments, rules_of(task, name))
    return dict(leaves(given)) if given else {}


def shows(text: str, value: Json) -> bool:
    return TextIndex(text).shows(value)


def sent(call: ToolCall, value: Json) -> bool:
    text = json.dumps(call.arguments, ensure_ascii=False).casefold()
    folded = value.casefold() if isinstance(value, str) else value
    return bool(call.arguments) and shows(text, folded)


@dataclass(frozen=True)
class Taken:
    """A value that gold call ``by`` takes from the result of gold call ``source``."""

    source: int
    by: int
    pointer: str
    value: Json
    path: str | None


class Gold:
    """What the rules say of a task's gold calls alone."""

    def __init__(self, task: Task) -> None:
        self.task, self.calls = task, task.gold_calls
        self.leaves = [given_leaves(task, *parts(call)) for call in self.calls]
        self.keys = [key_of(task, *parts(call)) for call in self.calls]
        self.required = [n for n, call in enumerate(self.calls) if not call.optional]
        self.data: list[dict[str, Json]] = []
        self.order: list[set[int]] = []
        self.echoed: list[dict[str, set[int]]] = []
        self.taken: list[Taken] = []
        for number, call in enumerate(self.calls):
            carried, before = dict[str, Json](), set(call.state_dependencies())
            echoed: dict[str, set[int]] = {}
            for pointer, ref in call.provenance.items():
                if ref.producers() and pointer in self.leaves[number]:
                    value = self.leaves[number][pointer]
                    if any(sent(ToolCall(*parts(self.calls[p])), value) for p in ref.producers()):
                        echoed[pointer] = set(ref.producers())  # whoever made it knew the value
                    carried[pointer] = value
                    if pointer not in echoed:
                        self.taken += self._taken(number, pointer, ref, value)
            self.data.append(carried)
            self.order.append(before)
            self.echoed.append(echoed)

    def _taken(self, number: int, pointer: str, ref: ValueRef, value: Json) -> Iterator[Taken]:
        if ref.parts:
            pieces = [piece.strip() for piece in str(value).split(",")]
            for part, piece in zip(ref.parts, pieces, strict=True):
                yield from self._taken(number, pointer, part, piece)
        elif ref.call is not None:
            yield Taken(ref.call, number, pointer, value, ref.path)

    def of_tool(self, name: str) -> list[int]:
        return [n for n, call in enumerate(self.calls) if call.name == name]

    def differing(self, name: str) -> set[str]:
        """Where gold's calls of a tool do not all have the same value."""
        rules, numbers = rules_of(self.task, name), self.of_tool(name)
        return {
            p
            for a in numbers
            for b in numbers
            for p in self.leaves[a].keys() | self.leaves[b].keys()
            if (p in self.leaves[a]) != (p in self.leaves[b])
            or not values_equal(self.leaves[a][p], self.leaves[b][p], _at(rules, p))
        }

    def telling(self, number: int) -> set[str]:
        call, held = self.calls[number], self.leaves[number]
        own = set(held) & self.differing(call.name) or set(held)
        constants = {p for p, r in call.provenance.items() if r.kind is Provenance.CONSTANT}
        rules = rules_of(self.task, call.name)
        return {p for p in own - constants if not _given(held[p], _at(rules, p))} or own

    def reads(self, number: int) -> bool:
        spec = self.task.tool_spec(self.calls[number].name)
        return not self.task.servers or (spec is not None and spec.read_only is True)

    def group(self, call: ToolCall) -> str:
        """Equal for equal calls, and for near copies of one call."""
        pointers, rules = self.differing(call.name), rules_of(self.task, call.name)

        def near(held: Mapping[str, Json]) -> str:
            forms = {p: canonical_by_schema(held.get(p), _at(rules, p)) for p in sorted(pointers)}
            return json.dumps(
                [canonical_text(_plain(f) if isinstance(f, str) else f) for f in forms.values()]
            )

        held = given_leaves(self.task, *_parts(call))
        whole = all(held.get(p) is not None for p in pointers)
        alike = whole or near(held) in [near(self.leaves[n]) for n in self.of_tool(call.name)]
        if pointers and alike:
            return f"near {call.name} {near(held)}"
        return key_of(self.task, *_parts(call))


def _at(rules: SchemaRules | None, pointer: str) -> SchemaRules | None:
    return rules.at(pointer) if rules is not None else None


def _given(value: Json, rules: SchemaRules | None) -> bool:
    """Whether the schema gives a leaf away."""
    if rules is None:
        return False
    single = bool(rules.enums) and all(len(members) == 1 for members in rules.enums)
    return single or any(values_equal(value, default, rules) for default in rules.defaults)


def _plain(text: str) -> str:
    """Without case, accents and blanks more than one."""
    letters = unicodedata.normalize("NFKD", text)
    return " ".join("".join(c for c in letters if not unicodedata.combining(c)).casefold().split())


def resolves(text: str, path: str | None, value: Json) -> bool:
    """Whether a value stands at a place in a result."""
    try:
        there = None if path is None else resolve(json.loads(text), path)
    except (KeyError, ValueError):
        return False
    return path is not None and not isinstance(there, dict | list) and values_equal(there, value)


class Reference:
    """One episode, scored slowly."""

    def __init__(self, task: Task, episode: Episode) -> None:
        self.task, self.episode, self.gold = task, episode, Gold(task)
        self.made = [Made(t, c) for t, turn in enumerate(episode.turns) for c in turn.calls]
        self.results = [text for turn in episode.turns for text in turn.results]

    def compare(self, at: int, number: int) -> Comparison:
        call, rules = self.made[at].call, rules_of(self.task, self.made[at].call.name)
        return compare_calls(call.arguments, self.gold.calls[number].arguments, rules)

    def brought(self, at: int, number: int) -> float:
        """0.8 if the result has what later gold calls take in its place, 0.6 elsewhere, else 0."""
        mine, text = self.made[at].call, self.results[at]
        taken = [t for t in self.gold.taken if t.source == number]
        known = [sent(mine, t.value) for t in taken]
        if not (taken and self.judged(at) and self.gold.reads(number)) or all(known):
            return 0.0
        if all(resolves(text, t.path, t.value) for t in taken):
            return 0.8
        if any(known):
            return 0.0
        return 0.6 * all(resolves(text, t.path, t.value) or shows(text, t.value) for t in taken)

    def judged(self, at: int) -> bool:
        """Whether a call ran and is no gold call word by word, which its words alone decide."""
        mine = self.made[at].call
        own = [n for n, call in enumerate(self.gold.calls) if call.name == mine.name]
        return mine.ok and all(self.compare(at, n).values < 1.0 for n in own)

    def likenesses(self, found: Comparison) -> dict[str, float]:
        """For each leaf 1 if it is equal, the likeness if both are texts, else 0."""
        alike = dict.fromkeys(found.leaves, 0.0)
        for pointer, status in found.leaves.items():
            made, gold = found.made.get(pointer), found.gold.get(pointer)
            if status == EQUAL:
                alike[pointer] = 1.0
            elif isinstance(made, str) and isinstance(gold, str):
                alike[pointer] = likeness(made, gold)
        return alike

    def parts_of(self, at: int, number: int) -> tuple[float, float, float]:
        """``T``, ``V`` and ``K``."""
        found, tells = self.compare(at, number), self.gold.telling(number)
        if not found.leaves or found.values == 1.0:
            return 1.0, 1.0, 1.0
        alike = self.likenesses(found)
        sure = self.brought(at, number)
        if sure:
            return 1.0, sure + (1 - sure) * sum(alike.values()) / len(alike), 1.0
        worth = {p: float(x == 1.0) for p, x in alike.items()}
        if self.gold.reads(number) and self.judged(at) and not self._is_taken(number):
            worth = {p: 1.0 if x == 1.0 else 0.8 * (x == 0.9) for p, x in alike.items()}
        telling = sum(worth[p] for p in tells) / len(tells) if tells else 1.0
        return found.types, sum(worth.values()) / len(worth), telling

    def _is_taken(self, number: int) -> bool:
        return any(t.source == number for t in self.gold.taken)

    def visible(self, value: Json, at: int) -> bool:
        """Whether the user or the result of an earlier turn had shown a value, or its parts."""
        if isinstance(value, dict | list) and value:
            return all(self.visible(leaf, at) for _, leaf in leaves(value))
        heard = self.heard(at)
        seen = any(
            shows(text, value) for text in (self.task.opening_query, *self.task.followups[:heard])
        )
        for number, (made, text) in enumerate(zip(self.made, self.results, strict=True)):
            if made.turn < self.made[at].turn and made.call.error not in ECHOES:
                own = not isinstance(value, dict | list) and sent(made.call, value)
                own = own and not self.brings_any(number)
                seen |= shows(text, value) and not own
        pieces = [p.strip() for p in value.split(",")] if isinstance(value, str) else []
        return seen or (len(pieces) > 1 and all(self.visible(p, at) for p in pieces if p))

    def brings_any(self, at: int) -> bool:
        """Whether a call that is no gold call word by word brought what one brings."""
        name = self.made[at].call.name
        numbers = [n for n, call in enumerate(self.gold.calls) if call.name == name]
        return self.made[at].readable and any(self.brought(at, n) for n in numbers)

    def heard(self, at: int) -> int:
        """How many follow-ups the user had said."""
        return sum(not turn.calls for turn in self.episode.turns[: self.made[at].turn])

    def ran(self, number: int, before: int) -> bool:
        """Whether a gold call, or what brings the same, ran before."""
        name = self.gold.calls[number].name
        for at in range(before):
            call = self.made[at].call
            if self.made[at].readable and call.ok and call.name == name:
                equal = key_of(self.task, name, call.arguments) == self.gold.keys[number]
                if equal or self.brought(at, number) or self._same_words(at, number):
                    return True
        return False

    def _same_words(self, at: int, number: int) -> bool:
        if self._is_taken(number) or not self.gold.reads(number) or not self.judged(at):
            return False
        return all(x >= 0.9 for x in self.likenesses(self.compare(at, number)).values())

    def kept(self, at: int, number: int) -> float:
        """``F``: the share of a gold call's dependencies that a call of its tool respects."""
        found, mine = self.compare(at, number), self.made[at].call
        held = given_leaves(self.task, *_parts(mine))
        edges: list[bool] = []
        for pointer, value in self.gold.data[number].items():
            seen = any(self.visible(v, at) for v in (value, held.get(pointer, value)))
            if pointer in self.gold.echoed[number]:
                seen |= all(self.ran(p, at) for p in self.gold.echoed[number][pointer])
            edges.append(found.leaves.get(pointer) == EQUAL and seen)
        edges += [self.ran(producer, at) for producer in self.gold.order[number]]
        asks = self.task.followups_before(number)
        if asks:
            edges.append(self.heard(at) >= asks)
        return sum(edges) / len(edges) if edges else 1.0

    def score(self, at: int, number: int) -> float:
        """``s`` of one call as one gold call."""
        mine = self.made[at]
        if not mine.readable or mine.call.name != self.gold.calls[number].name:
            return 0.0
        t, v, k = self.parts_of(at, number)
        ok = mine.call.ok
        atomic = 0.1 + (1 + k) / 2 * (0.2 * t + 0.5 * v + 0.2 * ok)
        return 0.5 * atomic + 0.5 * (self.kept(at, number) * v * k * ok)

    def optional(self, chosen: Mapping[int, int], keys: list[str]) -> set[int]:
        """Positions of the calls that do what a free optional gold call does."""
        free = [n for n, call in enumerate(self.gold.calls) if call.optional]
        found: set[int] = set()
        for at, mine in enumerate(self.made):
            for n in free if at not in chosen and mine.call.ok else ():
                if keys[at] == self.gold.keys[n] and self.kept(at, n) == 1.0:
                    found.add(at)
                    free.remove(n)
                    break
        return found

    def second_guesses(self, chosen: Mapping[int, int], spare: set[int], keys: list[str]) -> int:
        gold, guesses = self.gold, 0
        known = {keys[at] for at in {*chosen} | spare}
        for at, mine in enumerate(self.made):
            if at in chosen or at in spare or not mine.readable:
                continue
            needed = [n for n in gold.required if gold.calls[n].name == mine.call.name]
            stood = set(needed) <= {gold.required[column] for column in chosen.values()}
            guesses += bool(needed) and stood and keys[at] not in known
            known.add(keys[at])
        return guesses

    def total(self) -> tuple[float, int, int]:
        """The total, the number of needless calls, and of second guesses among them."""
        gold, made, n = self.gold, self.made, len(self.gold.required)
        table = [[self.score(at, g) for g in gold.required] for at in range(len(made))]
        unread = [f"unreadable {at}" for at in range(len(made))]
        read = [m.readable for m in made]
        keys = [key_of(self.task, *_parts(m.call)) for m in made]
        keys = [key if ok else other for key, ok, other in zip(keys, read, unread, strict=True)]
        groups = [
            gold.group(m.call) if m.readable else u for m, u in zip(made, unread, strict=True)
        ]
        of_gold = [gold.group(ToolCall(*parts(call))) for call in gold.calls]
        held = {group: max(1, of_gold.count(group)) for group in groups}
        only = {of_gold[g] for g, call in enumerate(gold.calls) if call.optional}
        only -= {of_gold[g] for g in gold.required}
        chosen: dict[int, int] = {}
        for late in (False, True):  # calls that only an optional gold call is equal to come last
            free = [c for c in range(n) if c not in chosen.values()]
            ranked = sorted(
                (at for at in range(len(made)) if (groups[at] in only) is late),
                key=lambda at: (-max(row := [table[at][c] for c in free] or [0.0]), -sum(row), at),
            )
            # Of equal calls, then of a group, those count that stand best for some gold call, as
            # many as gold has.
            for names, owned in ((keys, list(gold.keys)), (groups, of_gold)):
                ranked = [
                    at
                    for place, at in enumerate(ranked)
                    if [names[other] for other in ranked[:place]].count(names[at])
                    < max(1, owned.count(names[at]))
                ]
            positions = sorted(ranked)
            chosen = best_choice(table, positions, chosen, groups, held)
        spare = self.optional(chosen, keys)
        extra = len(made) - len(chosen) - len(spare)
        guesses = self.second_guesses(chosen, spare, keys)
        score = sum(table[at][column] for at, column in chosen.items()) / n if n else 1.0
        total = self.outcome(score) * (1.0 - cost_of(extra, guesses, n))
        return max(0.0, total), extra, guesses

    def outcome(self, score: float) -> float:
        """``S`` with the state and the answer, and less for each foreign record."""
        task, n = self.task, float(len(self.gold.required))
        reads = all(self.gold.reads(g) for g in range(len(self.gold.calls)))
        if task.final_state is None and task.servers and reads:
            task = replace(task, final_state={})
        found = read_outcome(task, self.episode, AnswerRule())
        worth = [(score, n)]
        if found.state is not None:
            worth.append((found.state, 1.0))
        if found.answer is not None:
            worth.append((found.answer * (1 + score) / 2, 1.0))
        weight = sum(w for _, w in worth)
        total = sum(part * w for part, w in worth) / weight if weight else 1.0
        return total * (0.8 * 0.9 ** (found.collateral - 1) if found.collateral else 1.0)


def _parts(call: ToolCall) -> tuple[str, JsonObject]:
    return call.name, call.arguments


def cost_of(x: int, guesses: int, n: int) -> float:
    if not n:
        return 1.0 - 0.5**x
    b = math.ceil(n / 2)
    beyond = 0.03 + 0.5 * (x - b) / (n + b) if x > b else 0.0
    return 0.02 * min(x, b) / b + beyond + 0.25 * guesses / n


def met_world(world: World, rng: random.Random) -> World:
    """The world with what the second edition looks at beside: servers, follow-ups, echoes."""
    task, results = world.task, list(world.results)
    steps = [list(step) for step in task.gold]
    at = [(s, i) for s, step in enumerate(task.gold) for i in range(len(step))]
    for number, (step, index) in enumerate(at):
        earlier = [
            n for n in range(number) if at[n][0] < step and not steps[at[n][0]][at[n][1]].optional
        ]
        if earlier and rng.random() < 0.2:  # takes what the producer itself was told
            source = rng.choice(earlier)
            first = task.gold_calls[source]
            if isinstance(first.arguments.get("key"), str):
                told = json.loads(results[source])
                results[source] = json.dumps({**told, "told": first.arguments["key"]})
                steps[step][index] = taking(steps[step][index], source, first.arguments["key"])
    followups: tuple[str, ...] = ()
    after: tuple[int, ...] = ()
    if rng.random() < 0.4:
        words = task.query.split()
        cut = rng.randint(0, len(words))
        task = replace(task, messages=({"role": "user", "content": " ".join(words[:cut])},))
        followups = (" ".join(words[cut:]), "Yes, please.")[: rng.randint(1, 2)]
        after = tuple(sorted(rng.randint(0, len(followups)) for _ in steps))
    specs = tuple(
        replace(t, read_only=rng.choice([True, True, False, None]))
        if isinstance(t, ToolSpec)
        else t
        for t in task.tools
    )
    servers = ("desk",) if rng.random() < 0.4 else task.servers
    task = replace(
        task,
        tools=specs,
        servers=servers,
        followups=followups,
        after_followup=after,
        gold=tuple(map(tuple, steps)),
    )
    return replace(world, task=task, results=tuple(results))


def taking(call: GoldCall, source: int, word: str) -> GoldCall:
    ref = ValueRef(Provenance.OUTPUT, call=source, path="/told")
    return replace(
        call,
        arguments={**call.arguments, "said": word},
        depends_on=tuple(sorted({*call.depends_on, source})),
        provenance={**call.provenance, "/said": ref},
    )


def met_episode(world: World, rng: random.Random) -> Episode:
    """Any episode, with other results, pauses for the user, and foreign records."""
    episode = any_episode(world, rng, max_calls=5)
    turns: list[Turn] = []
    for turn in episode.turns:
        if world.task.followups and rng.random() < 0.4:
            turns.append(Turn.of("And then?"))
        exchanges = tuple(
            replace(e, result=ToolResult(other_result(world, e.call, rng), e.result.error))
            if e.call.ok and rng.random() < 0.5
            else e
            for e in turn.exchanges
        )
        turns.append(replace(turn, exchanges=exchanges))
    state = episode.state
    if world.task.servers:
        foreign = {str(n): {"x": n} for n in range(rng.choice([0, 0, 1, 2, 5]))}
        state = {**(state or {}), "side": {"log": foreign}} if foreign else (state or {})
    return replace(episode, turns=tuple(turns), state=state)


def other_result(world: World, call: ToolCall, rng: random.Random) -> str:
    """A result with what gold calls of the tool return: in place, elsewhere, in part, or none."""
    texts = [
        t for t, g in zip(world.results, world.task.gold_calls, strict=True) if g.name == call.name
    ]
    texts = texts or list(world.results) or ["{}"]
    text = rng.choice(texts)
    return rng.choice(
        [
            text,
            text,
            json.dumps({"all": list(map(json.loads, texts))}),
            json.dumps({"asked": call.arguments, **json.loads(text)}),
            json.dumps({"id": json.loads(text).get("id")}),
            "not json: " + text,
            "{}",
        ]
    )


@pytest.mark.parametrize("examples", [60, pytest.param(2000, marks=pytest.mark.long)])
def test_the_second_edition_is_the_slow_reference_s(examples: int) -> None:
    reward = make_reward({"name": "graduated", "edition": 2})

    @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(any_world(most_calls=4), st.randoms(use_true_random=True))
    def body(plain: World, rng: random.Random) -> None:
        world = met_world(plain, rng)
        for _ in range(10):
            episode = met_episode(world, rng)
            total, extra, guesses = Reference(world.task, episode).total()
            breakdown = reward(world.task, episode)
            assert breakdown.components["extra_calls"] == extra
            assert breakdown.components["second_guesses"] == guesses
            assert abs(breakdown.total - total) <= NEAR
            assert reward(replace(world.task), replace(episode)) == breakdown

    body()

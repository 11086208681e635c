"""Chains: a request in words and the calls that fulfil it, for any world of a server.

    from tools.server_tasks.chains import Chain, call, chain, out

    @chain("send_to_payee")
    def send_to_payee(bank: Banking, chance: Chance) -> Chain | None:
        payee = chance.pick(list(bank.payees.values()))
        return Chain(
            f"Send 25.00 from my current account to {payee.name}.",
            call("find_account", kind="current"),
            call("find_payee", name=payee.name),
            call("transfer", source=out(0, "/account"), payee=out(1, "/payee"), amount=25.0),
        )

A chain says only where values come from. Running it on a live session gives the gold arguments,
their provenance and the dependencies, so every task can be solved and no provenance is guessed.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from orch_env.provenance.information import folded, occurs_in
from orch_env.servers import Chance, ServerSession, open_session
from orch_env.types import GoldCall, Provenance, ToolResult, ValueRef
from orch_env.types.json import Json, JsonObject, escape, resolve


@dataclass(frozen=True, slots=True)
class Out:
    """An argument read from the result of an earlier call.

    Attributes:
        call: that call's number in the flattened chain, from 0.
        path: JSON Pointer into its result.
    """

    call: int
    path: str


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a chain.

    Attributes:
        tool: the tool.
        arguments: values from the request, or :class:`Out`; also inside lists.
        after: calls whose change of the state it needs, beside those whose values it takes.
        optional: it helps, and gold is right without it.
    """

    tool: str
    arguments: Mapping[str, Json | Out] = field(default_factory=dict)
    after: tuple[int, ...] = ()
    optional: bool = False


class Chain:
    """A request and its calls, in order; a tuple of calls is one parallel step.

    Args:
        query: what the user says.
        steps: calls, or tuples of calls made by :func:`together`.
        answer: the right closing answer, where there is one; an :class:`Out` takes it from a
            result.
    """

    def __init__(
        self, query: str, *steps: Call | tuple[Call, ...], answer: Json | Out = None
    ) -> None:
        self.query = query
        self.steps = tuple(step if isinstance(step, tuple) else (step,) for step in steps)
        self.answer = answer

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls flattened in order."""
        return tuple(call for step in self.steps for call in step)


def call(tool: str, /, *, after: tuple[int, ...] = (), **arguments: Any) -> Call:
    """One call; see :class:`Call`."""
    return Call(tool, arguments, after)


def together(*calls: Call) -> tuple[Call, ...]:
    """Calls that may run in parallel."""
    return calls


def out(number: int, path: str) -> Out:
    """A value from the result of an earlier call."""
    return Out(number, path)


Maker: TypeAlias = Callable[[Any, Chance], Chain | None]
"""Makes a chain for a world, ``None`` where the draw does not fit."""


@dataclass(slots=True)
class Templates:
    """What a module of ``tools/server_tasks`` declares.

    Attributes:
        chains: name -> maker of natural requests.
        refusals: reason -> maker of a chain whose last call is refused for that reason.
    """

    chains: dict[str, Maker] = field(default_factory=dict)
    refusals: dict[str, Maker] = field(default_factory=dict)


_declared: dict[str, Templates] = {}


def chain(name: str) -> Callable[[Maker], Maker]:
    """Declare a maker of natural requests under a name."""

    def declare(maker: Maker) -> Maker:
        _of(maker.__module__).chains[name] = maker
        return maker

    return declare


def refusal(reason: str) -> Callable[[Maker], Maker]:
    """Declare a maker of chains whose last call is refused for this reason."""

    def declare(maker: Maker) -> Maker:
        _of(maker.__module__).refusals[reason] = maker
        return maker

    return declare


def _of(module: str) -> Templates:
    return _declared.setdefault(module, Templates())


def templates_of(server: str) -> Templates:
    """The chains and refusals of a server."""
    module = f"{__package__}.{server}"
    importlib.import_module(module)
    return _of(module)


TRIES = 200
"""Draws of a maker before it is given up."""


def fitting(maker: Maker, server: str, seed: int) -> tuple[Chain, ServerSession] | None:
    """A chain of a maker with a fresh session of the world; ``None`` if no draw fits it."""
    for attempt in range(TRIES):
        session = open_session(server, seed)
        made = maker(session.server, Chance(f"{server}/{seed}/{attempt}"))
        if made is not None:
            return made, session
    return None


@dataclass(frozen=True, slots=True)
class Trace:
    """A chain that was run: gold, and the result of each call up to the first failure."""

    gold: tuple[tuple[GoldCall, ...], ...]
    results: tuple[ToolResult, ...]

    @property
    def succeeded(self) -> bool:
        """Whether every call ran without an error."""
        return all(result.error is None for result in self.results)


def run_chain(made: Chain, session: ServerSession) -> Trace:
    """Run a chain in a session, up to the first call that fails."""
    gold: list[tuple[GoldCall, ...]] = []
    results: list[ToolResult] = []
    said = folded(made.query)
    for step in made.steps:
        done: list[GoldCall] = []
        # Calls of one step may run in any order, so none sees the result of another.
        seen = [json.loads(result.text) for result in results]
        for planned in step:
            resolved = _gold_call(planned, seen, said)
            done.append(resolved)
            results.append(session.call(resolved.name, resolved.arguments))
            if results[-1].error is not None:
                return Trace((*gold, tuple(done)), tuple(results))
        gold.append(tuple(done))
    return Trace(tuple(gold), tuple(results))


def _gold_call(planned: Call, seen: list[Json], said: str) -> GoldCall:
    provenance: dict[str, ValueRef] = {}
    producers = set(planned.after)

    def value_at(pointer: str, value: Any) -> Json:
        if isinstance(value, Out):
            provenance[pointer] = ValueRef(Provenance.OUTPUT, value.call, value.path)
            producers.add(value.call)
            return resolve(seen[value.call], value.path)
        if isinstance(value, list):
            return [value_at(f"{pointer}/{i}", item) for i, item in enumerate(value)]
        kind = Provenance.QUERY if occurs_in(value, said) else Provenance.REASONED
        provenance[pointer] = ValueRef(kind)
        return value

    arguments: JsonObject = {
        name: value_at(f"/{escape(name)}", value) for name, value in planned.arguments.items()
    }
    return GoldCall(
        planned.tool,
        arguments,
        optional=planned.optional,
        depends_on=tuple(sorted(producers)),
        provenance=provenance,
    )

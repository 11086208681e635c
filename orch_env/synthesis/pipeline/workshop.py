"""What one process needs to make tasks, and the two pieces of work that it can be given.

Both are functions of (configuration, their numbers) alone: the same piece of work gives the same
bytes in any process, before and after a restart.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from orch_env.backends.replay import ReplayBackend
from orch_env.importers.validation import validate_tasks
from orch_env.provenance.information import Key
from orch_env.servers.framework.chance import Chance
from orch_env.synthesis.checking.checker import Problem, check_request
from orch_env.synthesis.checking.entities import Entities
from orch_env.synthesis.checking.splits import Part, split_rows
from orch_env.synthesis.index import Index
from orch_env.synthesis.mining import Mined, domains
from orch_env.synthesis.pipeline.assemble import distractors, optional_arguments, task_of
from orch_env.synthesis.pipeline.config import Range, SynthesisConfig
from orch_env.synthesis.pipeline.source import corpus_of
from orch_env.synthesis.pipeline.stages import STAGES, Balance, Made, Tally
from orch_env.synthesis.pipeline.writers import make_writer
from orch_env.synthesis.sampling.draw import Draw, draw_of
from orch_env.synthesis.sampling.prepared import Prepared
from orch_env.synthesis.templates.growth import Growth, Limits
from orch_env.synthesis.templates.joining import Joining
from orch_env.synthesis.templates.template import Template
from orch_env.synthesis.writing.hints import Hints, load_hints
from orch_env.synthesis.writing.plan import Writer
from orch_env.synthesis.writing.planning import Planner, Refusal
from orch_env.synthesis.writing.selectors import Selectors
from orch_env.types import OrchError, Task

_BLOCK = 64
"""Draws that are put into words together."""
_MORE_DRAWS = 8
"""Draws for each wanted task: requests are refused, and entities reach their bound."""
_SLACK = 1.25
"""How far an entity may exceed, in one chunk, the bound of the whole set."""


class Workshop:
    """Everything that is read once in each process.

    Args:
        config: the job.
        mined: what mining found; ``None`` mines.
        folder: of the job; an endpoint's answers are kept there.
    """

    def __init__(
        self, config: SynthesisConfig, mined: Mined | None = None, folder: Path | None = None
    ) -> None:
        from orch_env.synthesis.mining import mine

        self.config = config
        self._folder = folder
        self.corpus = corpus_of(config)
        self.mined = mined if mined is not None else mine(self.corpus)

    @cached_property
    def index(self) -> Index:
        """The rows by value."""
        return Index(self.corpus, self.mined)

    @cached_property
    def joining(self) -> Joining:
        """Which calls belong together."""
        return Joining(self.index)

    @cached_property
    def entities(self) -> Entities:
        """What rows are about."""
        return Entities(self.index)

    @cached_property
    def parts(self) -> Mapping[str, Part]:
        """The rows of each split."""
        shares, seed, by = self.config.shares(), self.config.seed, self.config.split_by
        parts = split_rows(self.index, self.entities, shares, seed, by)
        return {part.name: part for part in parts}

    @cached_property
    def hints(self) -> Hints | None:
        """Words for the API, where there are any."""
        path = self.config.source.hints
        return load_hints(path) if path is not None else None

    @property
    def words(self) -> Mapping[str, Mapping[str, str]]:
        """Argument -> value -> words that say it, from hints: for the checker."""
        return self.hints.words if self.hints is not None else {}

    @cached_property
    def domains(self) -> Mapping[str, str]:
        """Tool -> domain."""
        given = self.hints.domains() if self.hints is not None else None
        return domains(self.mined, self.corpus.tools, given)

    @cached_property
    def planner(self) -> Planner:
        """Makes plans."""
        given = self.hints.label_paths() if self.hints is not None else None
        return Planner(self.index, Selectors(self.index, given))

    @cached_property
    def writer(self) -> Writer:
        """Writes the requests: one for the whole job, with one spend limit."""
        return make_writer(self.config.writing, self.hints, self._folder)

    def close(self) -> None:
        """Close what the writer holds open."""
        close = getattr(vars(self).get("writer"), "close", None)
        if close is not None:
            close()

    def fits(self, template: Template) -> bool:
        """Whether a template has the shape that was asked for."""
        shape, size = self.config.shape, template.size(self.domains)
        asked = (
            (shape.calls, size.calls),
            (shape.depth, size.depth),
            (shape.width, size.width),
            (shape.edges, size.edges),
            (shape.domains, size.domains),
        )
        return all(_inside(value, wanted) for wanted, value in asked)

    def grow(self, split: str, round_: int) -> list[tuple[Template, float]]:
        """Workflows of the wanted shape that can be filled in one split, with their fillings.

        Args:
            split: the split.
            round_: rounds of one split grow different workflows.
        """
        part, sampling = self.parts[split], self.config.sampling
        by_entity: dict[str, list[int]] = defaultdict(list)
        for row, entities in sorted(self.entities.of.items()):
            if row in part.rows:
                by_entity[entities[0]].append(row)
        starts = [rows for _, rows in sorted(by_entity.items())]
        namesakes = self._namesakes(part.rows) if self.config.shape.namesakes else {}
        limits = Limits(self.config.shape.calls_per_tool, part.rows, starts, namesakes)
        growth = Growth(self.joining, limits)
        chance = Chance(f"{self.config.seed}/grow/{split}/{round_}")
        found: dict[str, Template] = {}
        for template, _ in growth.sizes(self.config.shape.calls, chance, sampling.growth_tries):
            if template.id not in found and self.fits(template):
                found[template.id] = template
        counted = []
        for _, template in sorted(found.items()):
            count = Prepared(self.index, template, rows=part.rows).count
            if count:
                counted.append((template, count))
        return counted

    def _namesakes(self, rows: Collection[int]) -> dict[int, list[int]]:
        """Look-up -> look-ups of the same name by other tools, among some rows."""
        index, row_of = self.index, self.corpus.rows
        by_name: dict[frozenset[Key], list[int]] = defaultdict(list)
        for row in sorted(self.entities.of.keys() & rows):
            if index.name_sent(row) is not None and row_of[row].tool in self.joining.read:
                by_name[frozenset(index.sent[row].values())].append(row)
        return {
            row: [other for other in alike if row_of[other].tool != row_of[row].tool]
            for alike in by_name.values()
            for row in alike
        }

    def make(self, split: str, chunk: int, templates: Sequence[Template], count: int) -> Made:
        """The tasks of one chunk: up to ``count``, from these templates."""
        stages = {name: Tally() for name in STAGES}
        draws, attempts, seconds = self._drawn(split, chunk, templates, count, stages["drawn"])
        # A chunk may exceed its share a little: the whole set is balanced in the end.
        splits = self.config.splits
        bound = self.config.sampling.entity_limit * sum(splits.values())
        balance = Balance(count, int(_SLACK * bound * count / splits[split]) + 1)
        for start in range(0, len(draws), _BLOCK):
            if len(balance.kept) == count:
                break
            block = draws[start : start + _BLOCK]
            stages["drawn"].accept(len(block))
            for task in self._worded(split, chunk, start, block, stages):
                balance.offer(task, stages["kept"])
        tasks = balance.kept
        if self.config.replay:
            tasks = self._replayed(tasks, stages["replayed"])
        else:
            stages["replayed"].accept(len(tasks))
        return Made(tasks, stages, attempts, seconds)

    def _drawn(
        self, split: str, chunk: int, templates: Sequence[Template], count: int, tally: Tally
    ) -> tuple[list[Draw], int, float]:
        """Draws in turn over the numbers of calls and their templates, until there are enough.

        Returns:
            The draws, the attempts that they took, and the seconds, without preparation.
        """
        part, sampling = self.parts[split], self.config.sampling
        chance = Chance(f"{self.config.seed}/draw/{split}/{chunk}")
        weights = self._weights() if sampling.weights == "balanced" else None
        by_size: dict[int, list[list[Draw]]] = defaultdict(list)
        attempts, seconds = 0, 0.0
        for template in templates:

            def accept(rows: tuple[int, ...], template: Template = template) -> str | None:
                wrong = self.joining.incoherences(template, rows)
                return wrong[0] if wrong else None

            prepared = Prepared(
                self.index, template, rows=part.rows, weights=weights, accept=accept
            )
            started = time.perf_counter()
            rows = prepared.draws(sampling.per_template, chance, replacement=False)
            seconds += time.perf_counter() - started
            attempts += prepared.attempts
            for reason, times in prepared.rejected.items():
                tally.came += times
                tally.reasons[reason] += times
            found = [draw_of(self.index, template, filling) for filling in rows]
            wanted = self.config.shape.optional_arguments
            if wanted is not None:
                found = [d for d in found if _inside(optional_arguments(d, self.corpus), wanted)]
            if found:
                by_size[len(template.tools)].append(found)
        self._rare_first(by_size)
        draws = list(_in_turn([_in_turn(by_size[size]) for size in sorted(by_size)]))
        return draws[: _MORE_DRAWS * count + 10], attempts, seconds

    def _rare_first(self, by_size: Mapping[int, list[list[Draw]]]) -> None:
        """Sort draws so that those about seldom entities come first: more can be kept."""
        found = [draw for lists in by_size.values() for draws in lists for draw in draws]
        about = {id(draw): self.entities.of_rows(draw.rows) for draw in found}
        often = Counter(e for entities in about.values() for e in entities)
        for lists in by_size.values():
            for draws in lists:
                draws.sort(key=lambda d: (max((often[e] for e in about[id(d)]), default=0), d.rows))

    def _weights(self) -> Mapping[int, float]:
        """Less for rows whose entity has many rows, and for what many others lead to."""
        rows_of: Counter[str] = Counter(e for es in self.entities.of.values() for e in es)
        return {
            row: 1.0 / max(rows_of[e] for e in entities)
            for row, entities in self.entities.of.items()
        }

    def _worded(
        self,
        split: str,
        chunk: int,
        first: int,
        draws: Sequence[Draw],
        stages: Mapping[str, Tally],
    ) -> list[Task]:
        """Draws with a request each that the checker accepts."""
        names = list(self.config.splits)
        pool = names.index(split)
        chance = Chance(f"{self.config.seed}/write/{split}/{chunk}/{first}")
        planned = []
        for draw in draws:
            plan = self.planner.plan(draw, chance.between(0, 2**31), pool, len(names))
            if isinstance(plan, Refusal):
                stages["planned"].refuse(plan.reason)
            else:
                stages["planned"].accept()
                planned.append((draw, plan))
        writer = self.writer
        written = writer.write([plan for _, plan in planned])
        tasks: list[Task] = []
        for number, ((draw, plan), text) in enumerate(zip(planned, written, strict=True), first):
            if text.text is None:
                stages["written"].refuse(text.reason or "refused")
                continue
            stages["written"].accept()
            offered = sorted(
                {
                    *draw.template.tools,
                    *distractors(
                        draw, self.corpus, self.domains, self.config.shape.distractors, plan.seed
                    ),
                }
            )
            size = draw.template.size(self.domains)
            own = Counter(self.domains[tool] for tool in draw.template.tools)
            task = task_of(
                draw,
                plan,
                text,
                self.corpus,
                name=f"{split}-{chunk:04d}-{number:04d}",
                offered=offered,
                metadata={
                    "domain": min(own, key=lambda d: (-own[d], d)),
                    "domains": size.domains,
                    "template": draw.template.id,
                    "split": split,
                    "entities": sorted(self.entities.of_rows(draw.rows)),
                    "distractors": len(offered) - len(set(draw.template.tools)),
                    "optional_arguments": optional_arguments(draw, self.corpus),
                    "writer": writer.name,
                    **({"workflow": draw.template.to_dict()} if writer.name == "none" else {}),
                },
            )
            measured = (task.metadata["calls"], task.metadata["depth"], task.metadata["width"])
            edges = self.config.shape.edges  # the pieces of a joined text are edges of the gold
            if measured != (size.calls, size.depth, size.width) or not _inside(
                task.metadata["edges"], edges
            ):
                stages["checked"].refuse("another_size")
                continue
            if self.config.check and writer.name != "none":
                problems = self.problems(task)
                if problems:
                    stages["checked"].refuse(problems[0].kind)
                    continue
            stages["checked"].accept()
            tasks.append(task)
        return tasks

    def problems(self, task: Task) -> list[Problem]:
        """What the checker finds wrong with a task's request."""
        corpus, rows = self.corpus, self.rows_of(task)
        texts = [corpus.text(row) for row in rows]
        outputs = [corpus.response(row) for row in rows]
        return check_request(task, texts, corpus.tools, self.words, outputs)

    def rows_of(self, task: Task) -> list[int]:
        """The rows of a task's gold calls.

        Raises:
            OrchError: the cache does not hold one of them.
        """
        key = self.corpus.cache.key
        try:
            return [self._row_of[c.response, key(c.name, c.arguments)] for c in task.gold_calls]
        except KeyError as problem:
            raise OrchError(
                f"the cache does not hold a gold call of task {task.id!r}: it is of another cache"
            ) from problem

    @cached_property
    def _row_of(self) -> Mapping[tuple[str | None, bytes], int]:
        return {(row.digest, row.key): row.number for row in self.corpus.rows}

    @cached_property
    def _backend(self) -> ReplayBackend:
        return ReplayBackend(self.corpus.cache)

    def _replayed(self, tasks: list[Task], tally: Tally) -> list[Task]:
        result = validate_tasks(tasks, self._backend)
        failed = {failure["id"]: failure["reason"] for failure in result["failures"]}
        kept = []
        for task in tasks:
            if task.id in failed:
                tally.refuse(failed[task.id])
            else:
                tally.accept()
                kept.append(task)
        return kept


def _inside(value: int, wanted: Range | None) -> bool:
    return wanted is None or wanted[0] <= value <= wanted[1]


def _in_turn(lists: Sequence[Sequence[Draw]]) -> list[Draw]:
    """The first of each list, then the second of each, and so on."""

    def each() -> Iterator[Draw]:
        for place in range(max(map(len, lists), default=0)):
            for found in lists:
                if place < len(found):
                    yield found[place]

    return list(each())

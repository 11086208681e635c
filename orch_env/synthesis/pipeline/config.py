"""What a synthesis job is: its typed configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from orch_env.types import OrchError

Range = tuple[int, int]
"""Least and most, both included."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceConfig(_Strict):
    """What tasks are made of.

    Attributes:
        cache: a cache file, or a bundled data set's name.
        traces: a file of recorded tasks on that cache, for mining; optional.
        hints: a YAML file with words for the API; optional.
        exclude_benchmark: a task file whose recorded calls are left out; optional.
    """

    cache: str
    traces: str | None = None
    hints: str | None = None
    exclude_benchmark: str | None = None


class ShapeConfig(_Strict):
    """How complex tasks are. A number, or ``[least, most]``.

    Attributes:
        calls: calls in a task, 1 to 12.
        depth: calls on the longest path of dependencies.
        width: most calls at the same depth.
        edges: values read from earlier outputs.
        domains: domains that a task crosses.
        optional_arguments: arguments sent that the schemas do not require.
        calls_per_tool: calls of one tool at most.
        namesakes: whether parts that read nothing of one another may be one task, where they look
            up the same name: the flights to Rome and the sights of Rome.
        distractors: further tools that are offered.
    """

    calls: Range = (2, 6)
    depth: Range | None = None
    width: Range | None = None
    edges: Range | None = None
    domains: Range | None = None
    optional_arguments: Range | None = None
    calls_per_tool: int = Field(default=3, ge=1)
    namesakes: bool = False
    distractors: int = Field(default=4, ge=0)

    @field_validator(
        "calls", "depth", "width", "edges", "domains", "optional_arguments", mode="before"
    )
    @classmethod
    def _as_range(cls, value: Any) -> Any:
        if isinstance(value, int):
            return (value, value)
        return value

    @field_validator("calls")
    @classmethod
    def _possible(cls, value: Range) -> Range:
        if not 1 <= value[0] <= value[1] <= 12:
            raise ValueError("calls must lie between 1 and 12, least first")
        return value


class SamplingConfig(_Strict):
    """How fillings are drawn.

    Attributes:
        templates: a file of templates; without one they are grown.
        novel: leave out workflows that the traces have.
        growth_rounds: rounds of growing workflows in each split; more find more.
        growth_tries: tries to grow a workflow, for each round and number of calls.
        per_template: tasks of one template at most.
        entity_limit: largest share of the tasks that one entity may be in.
        weights: ``uniform`` over fillings, or ``balanced`` against rows that many fillings share.
    """

    templates: str | None = None
    novel: bool = False
    growth_rounds: int = Field(default=1, ge=1)
    growth_tries: int = Field(default=2000, ge=1)
    per_template: int = Field(default=20, ge=1)
    entity_limit: float = Field(default=0.05, gt=0, le=1)
    weights: Literal["uniform", "balanced"] = "balanced"


class WritingConfig(_Strict):
    """Who writes the requests.

    Attributes:
        writer: ``grammar``, ``endpoint``, ``none`` (the traces only), or ``module:Class``.
        options: what the writer takes.
    """

    writer: str = "grammar"
    options: dict[str, Any] = Field(default_factory=dict)


class SynthesisConfig(_Strict):
    """One job.

    Attributes:
        source: what tasks are made of.
        shape: how complex they are.
        sampling: how fillings are drawn.
        writing: who writes the requests.
        splits: name of a split -> number of tasks, in order.
        split_shares: name of a split -> share of the entities; by default by the numbers of tasks,
            evened out.
        split_by: ``chance``: entities go to splits by their hash; ``links``: those that recorded
            calls need together stay together, and shares are of the recorded calls. More tasks can
            be made, from places in each split that have more to do with one another.
        chunk: tasks that are made together; the unit of resuming.
        check: refuse requests that the checker does not accept.
        replay: play gold in the environment and keep what earns 1.
        seed: seed of everything.
        out: folder of the job.
        processes: worker processes; ``null``: one a core.
        runner: ``local``, or the name of another runner (``ray``).
    """

    source: SourceConfig
    shape: ShapeConfig = ShapeConfig()
    sampling: SamplingConfig = SamplingConfig()
    writing: WritingConfig = WritingConfig()
    splits: dict[str, int] = Field(default_factory=lambda: {"train": 800, "test": 100})
    split_shares: dict[str, float] | None = None
    split_by: Literal["chance", "links"] = "chance"
    chunk: int = Field(default=250, ge=10)
    check: bool = True
    replay: bool = True
    seed: int = 0
    out: str = "synthesis"
    processes: int | None = Field(default=None, ge=1)
    runner: str = "local"

    @field_validator("splits")
    @classmethod
    def _some(cls, value: dict[str, int]) -> dict[str, int]:
        if not value or min(value.values()) < 1:
            raise ValueError("each split needs at least one task")
        return value

    def shares(self) -> dict[str, float]:
        """Share of the entities for each split."""
        if self.split_shares is not None:
            return self.split_shares
        roots = {name: count**0.5 for name, count in self.splits.items()}
        total = sum(roots.values())
        return {name: root / total for name, root in roots.items()}

    def identity(self) -> dict[str, Any]:
        """What the tasks depend on: everything but where and by how many processes."""
        return self.model_dump(mode="json", exclude={"out", "processes", "runner"})


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> SynthesisConfig:
    """Read a YAML file, with ``key.key=value`` overrides.

    Raises:
        OrchError: it is missing, no YAML, or has a key or a value that is not understood.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML(typ="safe", pure=True)
    try:
        data: Any = yaml.load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError) as problem:
        raise OrchError(f"{str(path)!r} cannot be read: {problem}") from problem
    except YAMLError as problem:
        raise OrchError(f"{str(path)!r} is no YAML: {' '.join(str(problem).split())}") from problem
    if not isinstance(data, dict):
        raise OrchError(f"{str(path)!r} holds no settings")
    return checked(with_settings(data, overrides), str(path))


def with_settings(data: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Plain data with ``key.key=value`` settings put in; values are read as YAML.

    Raises:
        OrchError: a text is no setting.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML(typ="safe", pure=True)
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals:
            raise OrchError(f"{text!r} is no setting: write key=value, such as seed=1")
        node = data
        *parents, last = name.split(".")
        for key in parents:
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise OrchError(f"{text!r}: {key!r} is no group of settings")
        try:
            node[last] = yaml.load(value)
        except YAMLError as problem:
            raise OrchError(f"{text!r} is no YAML: {' '.join(str(problem).split())}") from problem
    return data


def checked(data: Any, where: str) -> SynthesisConfig:
    """A configuration from plain data.

    Raises:
        OrchError: a key or a value is not understood; the message names it.
    """
    try:
        return SynthesisConfig.model_validate(data)
    except ValidationError as problem:
        first = problem.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            said = "there is no such setting"
        raise OrchError(f"{where}: {key or 'settings'}: {said[0].lower()}{said[1:]}") from problem

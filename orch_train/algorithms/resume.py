"""What a resumed run may change: one list of settings, and what is said about each change.

A setting of `REFUSED` is a fact of the run: another value could not mean anything, because what
depends on it is in the checkpoint. One of `HARMLESS` changes nothing that is learned or measured.
All others take effect with the next step, which is said before it begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orch_env.types import OrchError
from orch_train.algorithms.checkpoint import CheckpointMetadata, holds_untrained, stored_values
from orch_train.algorithms.origin import Origin
from orch_train.config import RunConfig, Settings
from orch_train.config.model_folder import model_folder

REFUSED: Mapping[str, str] = {
    "model.path": "the weights come from the checkpoint",
    "model.lora_rank": "the checkpoint holds adapters of that rank, or none",
    "model.lora_alpha": "the checkpoint's adapters have that scale",
    "model.lora_targets": "the checkpoint's adapters belong to those layers",
    "environment.env": "the checkpoint says which of its tasks were trained",
    "environment.num_tasks": "the checkpoint says which of them were trained",
    "environment.env_config.tasks": "the checkpoint says which of them were trained",
    "environment.env_config.cache": "the tasks were recorded with it",
    "environment.env_config.split": "the checkpoint says which of its tasks were trained",
    "debugging.seed": "the order of the tasks was drawn with it",
}
REFUSED_IF_SAMPLED_AHEAD: Mapping[str, str] = {
    "training.max_staleness": "the checkpoint holds groups that were sampled ahead under it",
    "training.groups_per_batch": "the checkpoint holds groups that were sampled ahead under it",
}
HARMLESS = (
    "env_runners",
    "learners",
    "fault_tolerance",
    "reporting",
    "debugging.log_level",
    "evaluation.evaluation_interval",
    "evaluation.evaluation_at_start",
    "sft",
)
CONSEQUENCES: Mapping[str, str] = {
    "evaluation": "held-out numbers before and after do not compare",
    "environment.env_config.reward": "rewards before and after do not compare",
    "model.reference": "the KL penalty is measured against another policy",
    "training.group_size": "groups that were sampled ahead keep their size",
}
"""Said beside a change, by setting or group."""
_MISSING = object()


@dataclass(frozen=True)
class ResumeChanges:
    """How a configuration differs from the one that a checkpoint was written with.

    Attributes:
        step: training steps that are done.
        learned: lines about what takes effect with the next step.
        harmless: lines about what changes nothing that is learned or measured.
    """

    step: int
    learned: list[str] = field(default_factory=list)
    harmless: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """What is said at the start; nothing if nothing changes."""
        if self.learned:
            yield f"changed from step {self.step + 1} on:"
            yield from (f"  {line}" for line in self.learned)
        if self.harmless:
            yield "changed, without effect on what is learned:"
            yield from (f"  {line}" for line in self.harmless)


def resume_changes(
    config: RunConfig, checkpoint: Path, metadata: CheckpointMetadata
) -> ResumeChanges:
    """Compare a configuration with the one that a checkpoint was written with.

    Args:
        config: what the run is to go on with.
        checkpoint: its newest checkpoint.
        metadata: of the checkpoint.

    Raises:
        OrchError: a setting is changed that a resume cannot change; all of them are listed.
    """
    settings = config.settings
    before, after = _flat(stored_values(checkpoint)), _flat(config.to_dict())
    fixed = {**REFUSED, **(REFUSED_IF_SAMPLED_AHEAD if holds_untrained(checkpoint) else {})}
    changes, refused = ResumeChanges(metadata.training_iteration), []
    for where in sorted(before.keys() | after.keys(), key=list(after | before).index):
        old, new = before.get(where, _MISSING), after.get(where, _MISSING)
        if old == new:
            continue
        text = f"{where}: {_shown(old)} -> {_shown(new)}"
        if where in fixed and not _is_same(where, settings, metadata.origin):
            refused.append(f"{text} ({fixed[where]})")
        elif where in fixed:
            changes.harmless.append(f"{text} (the same content)")
        elif _rule(where, HARMLESS):
            changes.harmless.append(text)
        else:
            schedule = (before["training.lr_schedule"], after["training.lr_schedule"])
            changes.learned.append(text + _consequence(where, *schedule))
    if metadata.origin is not None:
        changes.learned.extend(
            f"{where}: the content of {after[where]!r} has changed since the run began"
            for where, same in metadata.origin.same_files(settings).items()
            if not same and before.get(where) == after.get(where)
        )
    if refused:
        raise OrchError(
            f"a resumed run cannot change {'; '.join(refused)}: go on without that, or start a "
            f"new run from its model with model.path={checkpoint / 'model'}"
        )
    return changes


def _is_same(where: str, settings: Settings, origin: Origin | None) -> bool:
    """Whether another name stands for the same content: a model or a file that was moved."""
    if origin is None:
        return False
    if where == "model.path":
        moved = model_folder(settings.model.path) is not None
        return moved and origin.model.is_same(settings.model.path)
    return origin.same_files(settings).get(where, False)


def _consequence(where: str, schedule_before: str, schedule: str) -> str:
    found = _rule(where, CONSEQUENCES)
    text = CONSEQUENCES[found] if found else ""
    if where == "training.iterations" and schedule == schedule_before != "constant":
        text = f"the {schedule} schedule ends elsewhere: the learning rate jumps"
    return f" ({text})" if text else ""


def _rule(where: str, rules: Mapping[str, str] | tuple[str, ...]) -> str | None:
    """The setting itself, or the group that it is in, if there is a rule for it."""
    return next((rule for rule in rules if f"{where}.".startswith(f"{rule}.")), None)


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by ``group.key``, the arguments of the environment by ``group.key.argument``."""
    flat = {f"{group}.{key}": v for group, keys in values.items() for key, v in keys.items()}
    if flat["model.lora_rank"] and flat["model.lora_alpha"] is None:
        flat["model.lora_alpha"] = 2.0 * flat["model.lora_rank"]
    arguments = flat.pop("environment.env_config")
    return {**{f"environment.env_config.{k}": v for k, v in arguments.items()}, **flat}


def _shown(value: Any) -> str:
    if value is _MISSING:
        return "(not given)"
    return "null" if value is None else str(value)

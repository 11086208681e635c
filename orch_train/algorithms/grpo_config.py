"""`GRPOConfig`: the fluent builder over the groups, in RLlib's words.

Type checkers and editors read `grpo_config.pyi`, which `python -m tools.settings_reference` makes.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature, getdoc, signature
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from orch_train.config.groups import GROUPS
from orch_train.config.run_config import RunConfig

if TYPE_CHECKING:
    from orch_train.algorithms.grpo import GRPO

_POSITIONAL = ("env", "path")
"""Keys that may be given without their name, as in ``.model("tiny")``."""


class GRPOConfig(RunConfig):
    """Configuration of a GRPO run: call groups in any order, then `build_algo`.

    Each group of `Settings` is a method that takes the group's keys. Nothing is checked while they
    are called; `validate` (and `build_algo`) raise one `OrchError` that lists every problem. Paths
    are relative to the current directory, in YAML files too.

        >>> config = (
        ...     GRPOConfig()
        ...     .environment(env_config={"tasks": "harbour"})
        ...     .training(lr=3e-4, group_size=8)
        ... )
        >>> config.settings.training.group_size
        8
    """

    def build_algo(self) -> GRPO:
        """Check, freeze, and start the algorithm: model, learner and runners.

        Raises:
            OrchError: the configuration, a file it names or the model is not usable.
        """
        self.validate()
        self.freeze()
        from orch_train.algorithms.grpo import GRPO

        return GRPO(self)


def _group_method(name: str, group: type[BaseModel]) -> Callable[..., GRPOConfig]:
    either = Parameter.POSITIONAL_OR_KEYWORD
    keys = [
        key.replace(kind=either) if key.name in _POSITIONAL else key
        for key in signature(group).parameters.values()
    ]
    accepted = Signature([Parameter("self", either), *keys])

    def method(self: GRPOConfig, *args: Any, **values: Any) -> GRPOConfig:
        known = {key: value for key, value in values.items() if key in accepted.parameters}
        named = accepted.bind_partial(self, *args, **known).arguments
        named.pop("self")
        return self.from_dict({name: {**named, **values}})

    method.__name__ = name
    method.__qualname__ = f"GRPOConfig.{name}"
    method.__doc__ = getdoc(group)
    method.__signature__ = accepted  # type: ignore[attr-defined]
    return method


for _name, _group in GROUPS.items():
    setattr(GRPOConfig, _name, _group_method(_name, _group))

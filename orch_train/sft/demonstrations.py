"""Demonstrations: token streams of plans that were really carried out.

The gold plan, or an imperfect version of it, is rolled through the environment, so that every
observation (errors included) is the one that the model will read, rendered by the code that
renders it in training. A demonstration has the same type as a rollout. Its
log-probabilities are 0, the demonstrator being certain, and its weight version is none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from orch_env.formats import get_format
from orch_env.replay.policies import GoldPolicy
from orch_env.types import OrchError, Task
from orch_train.chat.renderer import ChatRenderer
from orch_train.rollouts.environments import RolloutEnv
from orch_train.sft.mistakes import MISTAKES, DemonstrationKind, Mistakes
from orch_train.trajectory.sample import NO_VERSION, TrainingSample


@dataclass(frozen=True)
class Demonstration:
    """One trajectory to imitate.

    Attributes:
        task_id: the task.
        sample: the tokens; messages are what is imitated.
        kind: gold, or the mistake it contains.
        success: the environment's verdict.
    """

    task_id: str
    sample: TrainingSample
    kind: DemonstrationKind
    success: bool


@dataclass(frozen=True)
class DemonstrationSet:
    """Demonstrations, and what did not become one.

    Attributes:
        demonstrations: in task order.
        num_shortened: cut at ``max_tokens``: the messages beyond are not imitated.
        num_dropped: dropped, because not even the first message fitted.
        num_messages_lost: messages that are not imitated for either reason.
        failed_gold: ids of tasks whose gold plan did not succeed in the environment.
    """

    demonstrations: list[Demonstration] = field(default_factory=list)
    num_shortened: int = 0
    num_dropped: int = 0
    num_messages_lost: int = 0
    failed_gold: tuple[str, ...] = ()

    def summary(self) -> dict[str, Any]:
        """Counts for a report."""
        lengths = [len(d.sample) for d in self.demonstrations]
        kinds = Counter(str(d.kind) for d in self.demonstrations)
        return {
            "demonstrations": len(self.demonstrations),
            "kinds": {str(k): kinds[k] for k in DemonstrationKind if kinds[k]},
            "success": sum(d.success for d in self.demonstrations) / max(len(lengths), 1),
            "tokens": sum(lengths),
            "action_tokens": sum(d.sample.num_actions for d in self.demonstrations),
            "longest": max(lengths, default=0),
            "shortened": self.num_shortened,
            "dropped": self.num_dropped,
            "messages_lost": self.num_messages_lost,
            "failed_gold": list(self.failed_gold),
        }


def make_demonstrations(
    env: RolloutEnv,
    chat: ChatRenderer,
    tasks: Sequence[Task],
    *,
    corruption: float = 0.0,
    kinds: Sequence[DemonstrationKind] = MISTAKES,
    copies: int = 1,
    max_tokens: int | None = None,
    call_format: str = "hermes",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> DemonstrationSet:
    """Demonstrate every task.

    Args:
        env: an environment that knows all the tasks; it stays the caller's.
        chat: renders prompts, messages and observations.
        tasks: what to demonstrate, each with gold.
        corruption: share of demonstrations with exactly one mistake, 0..1.
        kinds: mistakes to choose from, each as likely as the other.
        copies: demonstrations per task, with mistakes drawn anew.
        max_tokens: longer traces are cut after the last message that fits.
        call_format: how calls are written.
        seed: with the task's id and the copy's number it determines everything.
        progress: called with (done, in total) after each demonstration.

    Raises:
        OrchError: no tasks, a task without gold, or nothing left within ``max_tokens``.
    """
    if not tasks:
        raise OrchError("there are no tasks to demonstrate")
    without = [t.id for t in tasks if not t.gold_calls]
    if without:
        raise OrchError(
            f"{len(without)} of {len(tasks)} tasks have no gold calls to demonstrate, "
            f"the first is {without[0]!r}"
        )
    mistakes = Mistakes(tasks, corruption, kinds)
    policy = GoldPolicy(get_format(call_format))
    made: list[Demonstration] = []
    shortened = dropped = lost = 0
    failed: dict[str, None] = {}
    for number, (copy, task) in enumerate([(c, t) for c in range(copies) for t in tasks]):
        # A str seed goes through SHA-512: the same on every machine, whatever the task order.
        rng = Random(f"{seed}\x1f{copy}\x1f{task.id}")
        whole = _demonstrate(env, chat, task, mistakes, policy, rng)
        if whole.kind is DemonstrationKind.GOLD and not whole.success:
            failed[task.id] = None
        sample = whole.sample if max_tokens is None else shorten(whole.sample, max_tokens)
        lost += len(whole.sample.turns) - len(sample.turns)
        if len(sample.turns):
            shortened += len(sample.turns) < len(whole.sample.turns)
            made.append(Demonstration(task.id, sample, whole.kind, whole.success))
        else:
            dropped += 1
        if progress is not None:
            progress(number + 1, copies * len(tasks))
    if not made:
        raise OrchError(
            f"no demonstration fits into max_tokens={max_tokens}: even the first message of the "
            "shortest one lies beyond; raise it, or shorten observations (max_observation_chars)"
        )
    return DemonstrationSet(made, shortened, dropped, lost, tuple(failed))


def shorten(sample: TrainingSample, max_tokens: int) -> TrainingSample:
    """The stream up to the end of the last message that lies within ``max_tokens`` tokens.

    One that fits is returned as it is; one without a fitting message becomes empty.
    """
    if len(sample) <= max_tokens:
        return sample
    kept = TrainingSample(turns=sample.turns[sample.turns[:, 1] <= max_tokens])
    actions = int((kept.turns[:, 1] - kept.turns[:, 0]).sum())
    kept.ids_T = sample.ids_T[: kept.num_trained]
    kept.logprobs_N, kept.versions_N = sample.logprobs_N[:actions], sample.versions_N[:actions]
    return kept


def _demonstrate(
    env: RolloutEnv,
    chat: ChatRenderer,
    task: Task,
    mistakes: Mistakes,
    policy: GoldPolicy,
    rng: Random,
) -> Demonstration:
    """Play one plan to its end."""
    observation, info = env.reset(seed=rng.getrandbits(31), options={"task_id": task.id})
    tools = info["tools"]
    # The tools that a model sees lack what it need not know, such as which strings are sets.
    offered = [spec.to_dict() for spec in env.unwrapped.backend.resolve(task).tools]
    kind, planned = mistakes.corrupt(task, offered, rng)
    policy.start(planned)
    sample = TrainingSample()
    sample.append_context(chat.start(info["messages"], tools))
    while True:
        action = policy.act(observation, info)
        ids = chat.encode_action(action)
        sample.append_action(ids, [0.0] * len(ids), [NO_VERSION] * len(ids))
        observation, _, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            return Demonstration(task.id, sample, kind, bool(info["success"]))
        sample.append_context(chat.observe(info["messages"], tools))

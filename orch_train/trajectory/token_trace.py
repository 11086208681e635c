"""The append-only token stream of one episode: token in, token out.

What the engine sampled is never decoded and encoded again; the prompt of the next turn is this
stream itself. Four aligned arrays of equal length: ids, action mask, log-probabilities of the
behaviour policy, and the weight version that sampled each token. The hard decision: where the
model did not act the log-probability is NaN, so that a misuse is loud and not a silent zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

NO_VERSION = -1


@dataclass(slots=True)
class TokenTrace:
    """Aligned per-token streams of one trajectory (all lists have length T).

    Attributes:
        ids: token ids, prompt and observations included.
        action_mask: True where the model sampled the token.
        logprobs: log-probability (natural log) under the sampling policy at the sampling
            temperature; NaN where ``action_mask`` is False.
        versions: weight version that sampled the token; ``NO_VERSION`` elsewhere.
        turns: ``(start, end)`` of each action, half-open.
    """

    ids: list[int] = field(default_factory=list)
    action_mask: list[bool] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    turns: list[tuple[int, int]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_actions(self) -> int:
        """Number of sampled tokens."""
        return sum(self.action_mask)

    def append_context(self, ids: Sequence[int]) -> None:
        """Append tokens that the model reads: the prompt, an observation, template markup."""
        self.ids.extend(ids)
        self.action_mask.extend([False] * len(ids))
        self.logprobs.extend([math.nan] * len(ids))
        self.versions.extend([NO_VERSION] * len(ids))

    def append_action(
        self, ids: Sequence[int], logprobs: Sequence[float], versions: Sequence[int]
    ) -> None:
        """Append the tokens of one sampled message.

        Raises:
            ValueError: the three sequences differ in length, or a log-probability is not finite
                or above 0.
        """
        if not len(ids) == len(logprobs) == len(versions):
            raise ValueError(
                f"an action needs aligned streams, got {len(ids)} ids, {len(logprobs)} "
                f"logprobs, {len(versions)} versions"
            )
        if not all(math.isfinite(x) and x <= 1e-6 for x in logprobs):
            raise ValueError("a sampled token's log-probability must be finite and at most 0")
        start = len(self.ids)
        self.ids.extend(ids)
        self.action_mask.extend([True] * len(ids))
        self.logprobs.extend(logprobs)
        self.versions.extend(versions)
        self.turns.append((start, len(self.ids)))

    def oldest_version(self) -> int:
        """The oldest weight version that sampled a token here; ``NO_VERSION`` if none did."""
        return min((v for v in self.versions if v != NO_VERSION), default=NO_VERSION)

    def to_dict(self) -> dict[str, Any]:
        """Plain data (NaN as None), for stores and checkpoints."""
        return {
            "ids": list(self.ids),
            "action_mask": list(self.action_mask),
            "logprobs": [None if math.isnan(x) else x for x in self.logprobs],
            "versions": list(self.versions),
            "turns": [list(t) for t in self.turns],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TokenTrace:
        """Undo :meth:`to_dict`."""
        trace = cls(
            ids=list(data["ids"]),
            action_mask=list(data["action_mask"]),
            logprobs=[math.nan if x is None else float(x) for x in data["logprobs"]],
            versions=list(data["versions"]),
            turns=[(int(a), int(b)) for a, b in data["turns"]],
        )
        trace.check()
        return trace

    def check(self) -> None:
        """Raise ``ValueError`` unless all streams are aligned and the turns cover the actions."""
        lengths = {len(self.ids), len(self.action_mask), len(self.logprobs), len(self.versions)}
        if len(lengths) != 1:
            raise ValueError(f"token streams have different lengths: {sorted(lengths)}")
        covered = [False] * len(self.ids)
        for start, end in self.turns:
            covered[start:end] = [True] * (end - start)
        if covered != self.action_mask:
            raise ValueError("the turns do not cover exactly the action tokens")
        if any(math.isnan(x) == acted for x, acted in zip(self.logprobs, covered, strict=True)):
            raise ValueError("log-probabilities must stand exactly where the model acted")

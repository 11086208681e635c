"""Learning rates that a paper found by model, where a higher one was seen to do harm.

PROVE (arXiv 2606.03892) trains four models by GRPO with one set of hyper-parameters and a learning
rate for each. At 1e-6 Qwen2.5-7B-Instruct and Granite-4.1-8B get worse, and Qwen3-8B diverges.
"""

from __future__ import annotations

from pathlib import Path

from orch_train.config.groups import Settings

PUBLISHED_RATES = {
    "qwen3-4b-instruct-2507": 1e-6,
    "qwen3-8b": 5e-8,
    "qwen2.5-7b-instruct": 3e-7,
    "granite-4.1-8b": 3e-7,
}
"""By the model's name in lower case, as it stands in its hub id."""


def published_rate(path: str) -> float | None:
    """The rate for a model, known by the last part of its path or hub id."""
    name = Path(path).name.lower().replace("_", "-")
    return next((rate for known, rate in PUBLISHED_RATES.items() if name.startswith(known)), None)


def rate_note(settings: Settings) -> str | None:
    """What to say of a learning rate above the published one; adapters take higher ones."""
    rate = published_rate(settings.model.path)
    if rate is None or settings.training.lr <= rate or settings.model.lora_rank:
        return None
    return (
        f"training.lr ({settings.training.lr:g}) is above the {rate:g} that PROVE "
        "(arXiv 2606.03892) found for this model; configs/prove.yaml has its other settings"
    )

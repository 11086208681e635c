"""Random Llama models and samples for the learner's tests, built on the spot."""

from __future__ import annotations

import random
from dataclasses import replace

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from orch_train.trajectory.sample import Group, TrainingSample

VOCABULARY = 67
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def small_llama(
    *, tied: bool = True, seed: int = 0, kv_heads: int = 2, vocabulary: int = VOCABULARY
) -> LlamaForCausalLM:
    """Two layers of width 32; large initial weights, so that logits differ."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        max_position_embeddings=16384,
        tie_word_embeddings=tied,
        initializer_range=0.15,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def random_sample(rng: random.Random, turns: int = 2, longest: int = 9) -> TrainingSample:
    """A prompt, then actions and observations in turn."""
    sample = TrainingSample()

    def ids() -> list[int]:
        return [rng.randrange(3, VOCABULARY) for _ in range(rng.randint(1, longest))]

    sample.append_context(ids())
    for turn in range(turns):
        action = ids()
        sample.append_action(action, [-rng.uniform(0.1, 4.0) for _ in action], [0] * len(action))
        if turn + 1 < turns or rng.random() < 0.5:
            sample.append_context(ids())
    return sample


def group_of(samples: list[TrainingSample], rewards: list[float], name: str = "g") -> Group:
    """A group of these samples with these rewards; success is reward 1."""
    members = [
        replace(sample, member=i, reward=reward, success=reward == 1.0)
        for i, (sample, reward) in enumerate(zip(samples, rewards, strict=True))
    ]
    return Group(name, "task", 0, members)


def random_groups(seed: int, groups: int = 3, size: int = 4) -> list[Group]:
    """Groups with spread rewards."""
    rng = random.Random(seed)
    return [
        group_of(
            [random_sample(rng, turns=rng.randint(1, 3)) for _ in range(size)],
            [0.0, 1.0, *(rng.random() for _ in range(size - 2))],
            f"g{number}",
        )
        for number in range(groups)
    ]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, ChatML: nothing to train, every text can be written."""
    backend = Tokenizer(models.BPE({c: i for i, c in enumerate(ALPHABET)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|pad|>",
        additional_special_tokens=["<|im_start|>"],
    )
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    return tokenizer

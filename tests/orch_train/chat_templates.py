"""Chat templates of the kinds that are about, and a small tokenizer to use them with."""

from __future__ import annotations

from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{%- for m in messages %}"
    "{%- if loop.first and m.role != 'system' %}"
    "{{- '<|im_start|>system\nYou help.<|im_end|>\n' }}{%- endif %}"
    "{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
"""Writes any role's name into the header; knows neither tools nor tool results."""

QWEN = (
    "{%- set first = messages[0] %}"
    "{%- if tools or first.role == 'system' %}{{- '<|im_start|>system\n' }}"
    "{%- if first.role == 'system' %}{{- first.content }}{%- endif %}"
    "{%- for tool in tools or [] %}{{- '\n' + (tool | tojson) }}{%- endfor %}"
    "{{- '<|im_end|>\n' }}{%- endif %}"
    "{%- for m in messages %}"
    "{%- if m.role == 'tool' %}"
    "{%- if loop.previtem is not defined or loop.previtem.role != 'tool' %}"
    "{{- '<|im_start|>user' }}{%- endif %}"
    "{{- '\n<tool_response>\n' + m.content + '\n</tool_response>' }}"
    "{%- if loop.nextitem is not defined or loop.nextitem.role != 'tool' %}"
    "{{- '<|im_end|>\n' }}{%- endif %}"
    "{%- elif m.role in ('user', 'assistant') %}"
    "{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
"""Groups consecutive tool messages into one user message; offers the tools itself."""

LLAMA = (
    "{{- '<|begin|>' }}"
    "{%- for m in messages %}"
    "{%- set role = 'ipython' if m.role == 'tool' else m.role %}"
    "{{- '<|header|>' + role + '<|/header|>\n\n' }}"
    "{%- if loop.first and tools %}{{- 'Tools: ' + (tools | tojson) + '\n\n' }}{%- endif %}"
    "{{- (m.content | trim) + '<|eot|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|header|>assistant<|/header|>\n\n' }}{%- endif %}"
)
"""Trims what it renders; one message per tool result, of a role of its own."""

MISTRAL = (
    "{{- '<s>' }}"
    "{%- for m in messages %}"
    "{%- if m.role == 'user' %}"
    "{%- if tools and loop.first %}"
    "{{- '[TOOLS]' + (tools | tojson) + '[/TOOLS]' }}{%- endif %}"
    "{{- '[INST]' + m.content + '[/INST]' }}"
    "{%- elif m.role == 'assistant' %}{{- ' ' + m.content + '</s>' }}"
    "{%- elif m.role == 'tool' %}"
    "{%- if m.tool_call_id is not defined or m.tool_call_id | length != 9 %}"
    "{{- raise_exception('tool call ids have length 9') }}{%- endif %}"
    "{{- '[RESULT]' + ({'content': m.content} | tojson) + '[/RESULT]' }}"
    "{%- else %}{{- raise_exception('only user, assistant and tool roles') }}{%- endif %}"
    "{%- endfor %}"
)
"""No system role, strict call ids, no header before an answer but a space in front of it."""

FORGETFUL = CHATML.replace(
    "m.content +", "(m.content if loop.last or m.role != 'assistant' else 'gone') +"
)
"""Rewrites earlier answers: of no use for training."""

REASONING = QWEN.replace(
    "'<|im_start|>assistant\n' }}{%- endif %}", "'<|im_start|>assistant\n<think>\n' }}{%- endif %}"
)
"""Opens the reasoning in the generation prompt."""

THINKING = (
    "{%- set ns = namespace(query=0) %}"
    "{%- for m in messages if m.role == 'user' %}"
    "{%- set ns.query = messages.index(m) %}{%- endfor %}"
    "{%- for m in messages %}"
    "{%- if m.role == 'assistant' %}"
    "{%- set thought = m.content.split('</think>')[0].split('<think>')[-1].strip('\n')"
    " if '</think>' in m.content else '' %}"
    "{%- set text = m.content.split('</think>')[-1].lstrip('\n') %}"
    "{{- '<|im_start|>assistant\n' }}"
    "{%- if loop.index0 > ns.query and (loop.last or thought) %}"
    "{{- '<think>\n' + thought + '\n</think>\n\n' }}{%- endif %}"
    "{{- text + '<|im_end|>\n' }}"
    "{%- else %}"
    "{{- '<|im_start|>' + m.role.replace('tool', 'observation') + '\n' + m.content }}"
    "{{- '<|im_end|>\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
"""Drops the reasoning of earlier answers once the user speaks again."""

SPECIAL = {
    THINKING: ("<|im_start|>", "<|im_end|>"),
    CHATML: ("<|im_start|>", "<|im_end|>"),
    QWEN: ("<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>"),
    LLAMA: ("<|begin|>", "<|header|>", "<|/header|>", "<|eot|>"),
    MISTRAL: ("<s>", "</s>", "[INST]", "[/INST]", "[TOOLS]", "[/TOOLS]", "[RESULT]", "[/RESULT]"),
    FORGETFUL: ("<|im_start|>", "<|im_end|>"),
    REASONING: ("<|im_start|>", "<|im_end|>"),
}
STOP = {LLAMA: "<|eot|>", MISTRAL: "</s>"}

_CORPUS = (
    "You help. The assistant finds the item for the user, and the tool answers.",
    '<tool_call>\n{"name": "find_item", "arguments": {"id": 12}}\n</tool_call>',
    "<tool_response>\nfound\n</tool_response> system user assistant tool ipython",
) * 20


@cache
def tokenizer_for(template: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE of a few merges with the template's special tokens."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|pad|>", "<|endoftext|>", *SPECIAL[template]],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_CORPUS, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=STOP.get(template, "<|im_end|>"),
        pad_token="<|pad|>",
    )
    tokenizer.chat_template = template
    return tokenizer


@cache
def sentence_tokenizer_for(template: str) -> PreTrainedTokenizerFast:
    """As SentencePiece does it: a space is put before a text, but not after a special token."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<unk>", *SPECIAL[template]], show_progress=False
    )
    backend.train_from_iterator(_CORPUS, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=STOP.get(template, "<|im_end|>"), unk_token="<unk>"
    )
    tokenizer.chat_template = template
    return tokenizer

"""Chat templates with the structure of the families in use, and byte-level BPE tokenizers for them.

The wording is our own; what they do with roles, headers, white space, tool results, reasoning and
call ids is what the families' own templates do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

_QWEN_SYSTEM = (
    "{%- if tools %}{{- '<|im_start|>system\n' }}"
    "{%- if messages[0].role == 'system' %}{{- messages[0].content + '\n\n' }}{%- endif %}"
    "{{- '# Functions\n\nYou may call these:\n<tools>' }}"
    "{%- for tool in tools %}{{- '\n' }}{{- tool | tojson }}{%- endfor %}"
    "{{- '\n</tools>\n\nCall like this:\n<tool_call>\n{\"name\": N}\n</tool_call><|im_end|>\n' }}"
    "{%- elif messages[0].role == 'system' %}"
    "{{- '<|im_start|>system\n' + messages[0].content + '<|im_end|>\n' }}{%- endif %}"
)
# One user turn holds a whole run of tool results.
_QWEN_TOOL = (
    "{%- elif m.role == 'tool' %}"
    "{%- if loop.first or messages[loop.index0 - 1].role != 'tool' %}"
    "{{- '<|im_start|>user' }}{%- endif %}"
    "{{- '\n<tool_response>\n' + m.content + '\n</tool_response>' }}"
    "{%- if loop.last or messages[loop.index0 + 1].role != 'tool' %}"
    "{{- '<|im_end|>\n' }}{%- endif %}"
)
_QWEN_USER = (
    "{%- if m.role == 'user' or (m.role == 'system' and not loop.first) %}"
    "{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
)
QWEN = (
    _QWEN_SYSTEM + "{%- for m in messages %}" + _QWEN_USER + "{%- elif m.role == 'assistant' %}"
    "{{- '<|im_start|>assistant\n' + m.content + '<|im_end|>\n' }}"
    + _QWEN_TOOL
    + "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)

# Reasoning is kept after the last real user message and dropped before it.
QWEN3 = (
    _QWEN_SYSTEM + "{%- set ns = namespace(last=0) %}"
    "{%- for m in messages %}{%- if m.role == 'user' and not"
    " (m.content.startswith('<tool_response>') and m.content.endswith('</tool_response>')) %}"
    "{%- set ns.last = loop.index0 %}{%- endif %}{%- endfor %}"
    "{%- for m in messages %}" + _QWEN_USER + "{%- elif m.role == 'assistant' %}"
    "{%- set thought, text = '', m.content %}"
    "{%- if '</think>' in m.content %}"
    "{%- set thought = (m.content.split('</think>') | first).rstrip('\n').split('<think>')"
    " | last %}{%- set thought = thought.lstrip('\n') %}"
    "{%- set text = (m.content.split('</think>') | last).lstrip('\n') %}{%- endif %}"
    "{{- '<|im_start|>assistant\n' }}"
    "{%- if loop.index0 > ns.last and (loop.last or thought) %}"
    "{{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + text.lstrip('\n') }}"
    "{%- else %}{{- text }}{%- endif %}"
    "{{- '<|im_end|>\n' }}" + _QWEN_TOOL + "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}"
    "{{- '<think>\n\n</think>\n\n' }}{%- endif %}{%- endif %}"
)

# A system turn is always there; tools open the first user turn; results have a role of their own.
LLAMA3 = (
    "{{- bos_token }}"
    "{%- if messages[0].role == 'system' %}{%- set system = messages[0].content | trim %}"
    "{%- set messages = messages[1:] %}{%- else %}{%- set system = '' %}{%- endif %}"
    "{{- '<|start_header_id|>system<|end_header_id|>\n\n' }}"
    "{%- if tools %}{{- 'Environment: ipython\n' }}{%- endif %}"
    "{{- 'Knowledge ends: 2023\n\n' + system + '<|eot_id|>' }}"
    "{%- if tools %}"
    "{%- set opening = messages[0].content | trim %}{%- set messages = messages[1:] %}"
    "{{- '<|start_header_id|>user<|end_header_id|>\n\nYou may call these:\n\n' }}"
    "{%- for tool in tools %}{{- tool | tojson(indent=4) }}{{- '\n\n' }}{%- endfor %}"
    "{{- opening + '<|eot_id|>' }}{%- endif %}"
    "{%- for m in messages %}"
    "{%- if m.role == 'tool' or m.role == 'ipython' %}"
    "{{- '<|start_header_id|>ipython<|end_header_id|>\n\n' }}"
    "{%- if m.content is mapping or m.content is iterable %}{{- m.content | tojson }}"
    "{%- else %}{{- m.content }}{%- endif %}{{- '<|eot_id|>' }}"
    "{%- else %}"
    "{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' }}"
    "{{- m.content | trim + '<|eot_id|>' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}"
)

# No system role; users and assistants must alternate (messages with tool_calls do not count);
# tools stand before the last user message; call ids have nine characters.
_MISTRAL_ORDER = (
    "{%- set ns = namespace(index=0) %}{%- for m in messages %}"
    "{%- if m.role == 'user' or (m.role == 'assistant' and m.tool_calls is not defined) %}"
    "{%- if (m.role == 'user') != (ns.index % 2 == 0) %}"
    "{{- raise_exception('users and assistants must take turns') }}{%- endif %}"
    "{%- set ns.index = ns.index + 1 %}{%- endif %}{%- endfor %}"
)
_MISTRAL_BODY = (
    "{%- set last = messages | selectattr('role', 'equalto', 'user') | list | last %}"
    "{{- bos_token }}"
    "{%- for m in messages %}"
    "{%- if m.role == 'user' %}"
    "{%- if tools and m == last %}"
    "{{- '[AVAILABLE_TOOLS] ' + (tools | tojson) + '[/AVAILABLE_TOOLS]' }}{%- endif %}"
    "{{- '[INST] ' + m.content + '[/INST]' }}"
    "{%- elif m.role == 'assistant' and m.tool_calls is defined %}"
    "{{- '[TOOL_CALLS] ' + (m.tool_calls | tojson) + eos_token }}"
    "{%- elif m.role == 'assistant' %}{{- ' ' + m.content + eos_token }}"
    "{%- elif m.role == 'tool' %}"
    "{%- if m.tool_call_id is not defined or m.tool_call_id | length != 9 %}"
    "{{- raise_exception('call ids have nine characters') }}{%- endif %}"
    "{{- '[TOOL_RESULTS] {\"content\": ' + (m.content | tojson) }}"
    "{{- ', \"call_id\": \"' + m.tool_call_id + '\"}[/TOOL_RESULTS]' }}"
    "{%- else %}{{- raise_exception('only user, assistant and tool') }}{%- endif %}"
    "{%- endfor %}"
)
MISTRAL = _MISTRAL_ORDER + _MISTRAL_BODY

# Any role is written into the header; tools are not looked at.
CHATML = (
    "{%- for m in messages %}"
    "{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)

# As Hermes-3 and Command-R+ have it: one template for tools, with a role for their results, and one
# for everything else that would write any role into the header.
TOOL_USE = (
    "{{- '<|im_start|>system\nYou may call these:' }}"
    "{%- for tool in tools %}{{- '\n' }}{{- tool | tojson }}{%- endfor %}"
    "{%- if messages[0].role == 'system' %}{{- '\n\n' + messages[0].content }}{%- endif %}"
    "{{- '<|im_end|>\n' }}"
    "{%- for m in messages if m.role != 'system' %}"
    "{%- if m.role == 'tool' %}"
    "{{- '<|im_start|>tool\n<tool_response>\n' + m.content + '\n</tool_response><|im_end|>\n' }}"
    "{%- else %}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{%- endif %}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
# The same two in one text.
BRANCHING = "{%- if tools %}" + TOOL_USE + "{%- else %}" + CHATML + "{%- endif %}"

_QWEN_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_QWEN_MARKUP = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
_PATTERN = (  # how newer tokenizers cut text before merging: digits in threes, breaks kept together
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True)
class Family:
    """A template with the tokens that go with it.

    Attributes:
        special: special tokens, the stop token last.
        markup: added tokens that are not special.
        oracle: the template that renders whole conversations, where the family's own would refuse
            the order of roles.
        lead: what the template writes between header and answer.
        options: template variables.
        bos: the token that opens a text.
        moves_tools: whether the tools stand before the newest message of the user.
        plain: the template for conversations without tools, if it is another one.
        plain_tool_role: whether results have a role of their own in conversations without tools.
    """

    name: str
    template: str
    special: tuple[str, ...]
    markup: tuple[str, ...] = ()
    oracle: str = ""
    lead: str = ""
    options: tuple[tuple[str, Any], ...] = ()
    bos: str | None = None
    thinks: bool = False
    own_tools: bool = True
    system_role: bool = True
    tool_role: bool = True
    moves_tools: bool = False
    plain: str = ""
    plain_tool_role: bool = True

    @property
    def chat_template(self) -> str | dict[str, str]:
        """As a tokenizer holds it."""
        if not self.plain:
            return self.template
        return {"default": self.plain, "tool_use": self.template}

    @property
    def stop(self) -> str:
        return self.special[-1]


_THINK = ("<think>", "</think>")
_LLAMA_TOKENS = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>")
_MISTRAL_TOKENS = ("[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]")
FAMILIES = {
    family.name: family
    for family in (
        Family("qwen", QWEN, _QWEN_TOKENS, _QWEN_MARKUP),
        Family("qwen3", QWEN3, _QWEN_TOKENS, _QWEN_MARKUP + _THINK, thinks=True),
        Family(
            "qwen3_silent",
            QWEN3,
            _QWEN_TOKENS,
            _QWEN_MARKUP + _THINK,
            options=(("enable_thinking", False),),
        ),
        Family("llama3", LLAMA3, (*_LLAMA_TOKENS, "<|eot_id|>"), bos="<|begin_of_text|>"),
        Family(
            "mistral",
            MISTRAL,
            (*_MISTRAL_TOKENS, "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", "<s>", "</s>"),
            oracle=_MISTRAL_BODY,
            lead=" ",
            bos="<s>",
            system_role=False,
            moves_tools=True,
        ),
        Family("named", TOOL_USE, _QWEN_TOKENS, _QWEN_MARKUP, plain=CHATML, plain_tool_role=False),
        Family("branching", BRANCHING, _QWEN_TOKENS, _QWEN_MARKUP, plain_tool_role=False),
        Family("chatml", CHATML, _QWEN_TOKENS, own_tools=False, tool_role=False),
    )
}

_CORPUS = (
    "You may call these functions. The assistant finds the item for the user; the tool answers.",
    '<tool_call>\n{"name": "find_item", "arguments": {"id": 12, "query": "Zürich"}}\n</tool_call>',
    "<tool_response>\nfound\n</tool_response> system user assistant tool ipython\n\n",
    "<|im_start|>assistant\n<|im_end|>\n [INST] [/INST] <|eot_id|> 東京 😀 \\u00e9 \r\n\t",
) * 20


@cache
def family_tokenizer(family: Family) -> PreTrainedTokenizerFast:
    """A byte-level BPE of a few hundred merges, cut as the newer tokenizers cut."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|pad|>", *family.special],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_CORPUS, trainer)
    backend.add_tokens([AddedToken(t, normalized=False, special=False) for t in family.markup])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=family.stop,
        bos_token=family.bos,
        pad_token="<|pad|>",
    )
    tokenizer.chat_template = family.chat_template
    return tokenizer

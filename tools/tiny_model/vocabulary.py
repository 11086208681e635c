"""The tiny tokenizer's pieces: what is one token for a model of a million parameters.

Such a model learns in minutes only if a call costs few tokens and a value is copied in few steps.
So fixed markup, tool names and ``key": "`` pieces are one token each, names and ids fall into
pieces of two characters, and common words carry the space before them. No entity's name and no id
is a piece, so that each must be copied.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from orch_env.servers.domains.harbour import CONSONANTS, VOWELS
from orch_env.types import ToolSpec
from tools.harbour_world.workflow import Workflow

END, START, PAD = "<|im_end|>", "<|im_start|>", "<|pad|>"
SPECIAL = (PAD, START, END)

CALL_START = '<tool_call>\n{"name": "'
CALL_ARGUMENTS = '", "arguments": {"'
CALL_END = '"}}\n</tool_call>'
RESULT_START = '<tool_response>\n{"'
RESULT_END = '"}\n</tool_response>'

_MARKUP = (
    CALL_START,
    CALL_ARGUMENTS,
    CALL_END,
    RESULT_START,
    RESULT_END,
    "<tool_call>\n",
    "\n</tool_call>",
    "<tool_response>\n",
    "\n</tool_response>",
    '{"name": "',
    '{"',
    '"}',
    '"}}',
    '": "',
    '": ',
    '", "',
    ', "',
    "system\n",
    "user\n",
    "assistant\n",
    "tool\n",
    "Tools:\n",
    ")\n",
    ", ",
    ". ",
    '<tool_response>\n{"error": {"type": "',
    '", "message": "',
    '", "details": {',
    '", "details": {}}}\n</tool_response>',
    "}}}\n</tool_response>",
)

# What error observations and short answers are written with.
_WORDS = """
a again against all already an and any are argument arguments at available be because been
before berth but by call called calls can cannot check correct correctly could details did do
does done each earlier end episode error every expected first fix for found from gives given has
have here id in into invalid invalid_arguments is it its later limit made make malformed_call
mean message missing more must name named names needed never no not not_found not_recorded of
off on one only or order other out read recorded request required response responses result
results run said see server so string such than that the their them then there these they this
to tool tools tool_error try type unknown unknown_tool use used value values was were what when
where which with without work write yet you your Correct Check Did The There Unknown
Missing must match pattern
"""


def harbour_pieces(tools: Sequence[ToolSpec], workflows: Iterable[Workflow]) -> list[str]:
    """All pieces besides the 256 bytes, in a fixed order, each once.

    Args:
        tools: their names, argument names and id prefixes become pieces.
        workflows: the words of their phrases become pieces.
    """
    pieces = list(_MARKUP)
    pieces += [f"{number:02d}" for number in range(100)]
    syllables = [c + v for c in CONSONANTS for v in VOWELS]
    pieces += syllables + [s.capitalize() for s in syllables]
    for tool in tools:
        pieces.append(tool.name)
        for name, schema in tool.parameters["properties"].items():
            found = re.match(r"\^([A-Z]-)", schema.get("pattern", ""))
            opening = f'{name}": "'
            pieces += [opening, f"({name}", f"({name})\n", f", {name}", f", {name})\n"]
            pieces += [opening + found[1], found[1]] if found else []
    for key, prefix in (("job", "J-"), ("notice", "N-")):
        pieces += [f'{key}": "{prefix}', prefix]
    pieces += ['", "confirmed": true}\n</tool_response>', '", "until": 2026}\n</tool_response>']
    phrases = " ".join(re.sub(r"\{\w+\}", " ", p) for w in workflows for p in w.phrases)
    words = {word.strip(".,:?") for word in (*phrases.split(), *_WORDS.split())}
    # A space before a word, as in running text; a bare word could cut a name's syllables apart.
    pieces += [f" {word}" for word in sorted(words) if word.islower()]
    pieces += [word for word in sorted(words) if not word.islower()]
    return [piece for piece in dict.fromkeys(pieces) if len(piece) > 1]

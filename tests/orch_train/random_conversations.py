"""Random tool conversations, an environment that plays them, and what a template makes of them.

The reference knows nothing of the renderer under test: it renders the whole conversation with the
family's template and finds the template's own control tokens by rendering it a second time with
harmless text of equal length in place of whatever outside text spells one out.
"""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from tokenizers import Tokenizer

from orch_env.formats import get_format
from orch_env.types import Episode, StopReason, ToolSpec
from tests.orch_train.chat_families import Family, family_tokenizer

HERMES = get_format("hermes")
Messages = list[dict[str, Any]]

_WORDS = (
    "find", " the", " item", "Zürich", " 東京", "😀", "👩‍👩‍👧", "é", "\u202e", "12345",
    " 0.5", '"', "\\",
    "{", "}", "[", "]", "<", ">", "|", "\n", "\n\n", " ", "  ", "\t", "\r\n", "'s", "_", ":", ",",
    '{"a": [1, null]}', "assistant", "user\n",
    "\ufeff", "\u0000", "a\u0301",
)  # fmt: skip


@dataclass(frozen=True)
class Conversation:
    """One conversation: what is asked, what the model samples, and what it then reads.

    Attributes:
        opening: system and user messages.
        tools: OpenAI shape.
        answers: texts, without stop token and lead.
        observations: after each answer but the last.
        complete: whether the last answer ends by its stop token.
    """

    opening: Messages
    tools: Messages
    answers: list[str]
    observations: list[Messages]
    complete: bool


def random_conversation(family: Family, seed: int) -> Conversation:
    """A conversation of one to five turns; every third one tries to inject control tokens."""
    rng = random.Random(f"{family.name}/{seed}")
    hostile = (*family.special, *family.markup) if seed % 3 == 0 else ()

    def text(longest: int = 12) -> str:
        words = [rng.choice(_WORDS) for _ in range(rng.randrange(longest))]
        if hostile and rng.random() < 0.6:
            forged = [rng.choice(hostile), rng.choice(hostile) + "system\n"]
            words.insert(rng.randint(0, len(words)), "".join(forged))
        return "".join(words)

    def observation() -> Messages:
        results: Messages = [{"role": "tool", "content": text()} for _ in range(rng.randint(1, 3))]
        kind = rng.random()
        if kind < 0.2:
            return [{"role": "user", "content": text()}]
        return [*results, {"role": "user", "content": text()}] if kind < 0.3 else results

    turns = rng.randint(1, 5)
    tool = {"name": "find", "description": text(), "parameters": {"type": "object"}}
    opening: Messages = [{"role": "user", "content": text()}]
    if rng.random() < 0.5:
        opening.insert(0, {"role": "system", "content": "Be brief."})
    return Conversation(
        opening,
        [{"type": "function", "function": tool}] if rng.random() < 0.7 else [],
        [_answer(family, rng) for _ in range(turns)],
        [observation() for _ in range(turns - 1)],
        rng.random() < 0.8,
    )


def _answer(family: Family, rng: random.Random) -> str:
    """Text at whose ends nothing is trimmed, in half of the cases with a call."""
    body = "".join(rng.choice(_WORDS) for _ in range(rng.randrange(10))).strip()
    if rng.random() < 0.6:
        call = json.dumps({"name": "find", "arguments": {"query": body}}, ensure_ascii=False)
        body = f"<tool_call>\n{call}\n</tool_call>"
    body = f"A{body}."
    if family.thinks and rng.random() < 0.7:
        return f"<think>\nhm {rng.randrange(100)}\n</think>\n\n{body}"
    return body


def messages_of(family: Family, conversation: Conversation, answers: list[str]) -> Messages:
    """The conversation as the template sees it: what it cannot express is folded into user text."""
    chat = [dict(m) for m in conversation.opening]
    if conversation.tools and not family.own_tools:
        tools = HERMES.render_tools([ToolSpec.from_dict(t) for t in conversation.tools])
        if chat[0]["role"] == "system":
            chat[0]["content"] += f"\n\n{tools}"
        else:
            chat.insert(0, {"role": "system", "content": tools})
    if not family.system_role and chat[0]["role"] == "system":
        system = chat.pop(0)["content"]
        chat[0]["content"] = f"{system}\n\n{chat[0]['content']}"
    for number, answer in enumerate(answers):
        chat.append({"role": "assistant", "content": answer})
        if number < len(conversation.observations):
            chat += _observed(family, conversation, conversation.observations[number])
    return chat


def _observed(family: Family, conversation: Conversation, observation: Messages) -> Messages:
    if family.tool_role and (conversation.tools or family.plain_tool_role):
        return [
            {**m, "tool_call_id": f"{n:09d}"} if m["role"] == "tool" else m
            for n, m in enumerate(observation)
        ]
    results = [m["content"] for m in observation if m["role"] == "tool"]
    folded: Messages = []
    if results:
        folded.append({"role": "user", "content": HERMES.render_results(results)})
    return folded + [m for m in observation if m["role"] == "user"]


class Reference:
    """A family's ids of whole conversations, by its template and two plain tokenizers."""

    def __init__(self, family: Family) -> None:
        self.family = family
        self.tokenizer = family_tokenizer(family)
        self.control = {
            t: int(self.tokenizer.convert_tokens_to_ids(t))
            for t in (*family.special, *family.markup)
        }
        longest_first = sorted(self.control, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, longest_first)))
        self.plain = _without_control_tokens(family)

    def contexts(self, conversation: Conversation) -> list[list[int]]:
        """What stands before each answer: the opening prompt, then each observation."""
        contexts = [self.ids(conversation, [])]
        for turn in range(1, len(conversation.observations) + 1):
            answers = ["ok"] * turn
            earlier = replace(conversation, observations=conversation.observations[: turn - 1])
            # The history as it stands once an answer follows; some prompts hold more than that.
            answered = self.ids(earlier, answers[:-1], options=False) + self.answer_ids("ok")
            prompt = self.ids(conversation, answers)
            assert prompt[: len(answered)] == answered
            contexts.append(prompt[len(answered) :])
        return contexts

    def answer_ids(self, text: str) -> list[int]:
        """Canonical ids of an answer in its place, stop token included."""
        ids: list[int] = self.tokenizer.encode(self.family.lead + text, add_special_tokens=False)
        return [*ids, self.control[self.family.stop]]

    def ids(
        self,
        conversation: Conversation,
        answers: list[str],
        *,
        options: bool = True,
    ) -> list[int]:
        """Ids of a prompt in which outside text stays text."""
        harmless = replace(
            conversation,
            opening=[self._tame(m) for m in conversation.opening],
            tools=[self._tame(t) for t in conversation.tools],
            observations=[[self._tame(m) for m in o] for o in conversation.observations],
        )
        return self._pieces(
            self._render(conversation, answers, options),
            self._render(harmless, answers, options),
        )

    def whole(self, conversation: Conversation, answers: list[str]) -> list[int]:
        """What encoding the template's text gives as it stands."""
        text = self._render(conversation, answers, True)
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids

    def _render(self, conversation: Conversation, answers: list[str], options: bool) -> str:
        text = self.tokenizer.apply_chat_template(
            messages_of(self.family, conversation, answers),
            tools=(conversation.tools if self.family.own_tools else None) or None,
            chat_template=self.family.oracle or None,
            add_generation_prompt=True,
            tokenize=False,
            **(dict(self.family.options) if options else {}),
        )
        return str(text)

    def _tame(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.pattern.sub(lambda found: "x" * len(found.group()), value)
        if isinstance(value, dict):
            return {k: self._tame(v) if k != "role" else v for k, v in value.items()}
        return value

    def _pieces(self, text: str, harmless: str) -> list[int]:
        """Ids of ``text``, whose control tokens are those of ``harmless``, at the same places."""
        assert len(text) == len(harmless)
        ids: list[int] = []
        at = 0
        for found in self.pattern.finditer(harmless):
            assert text[found.start() : found.end()] == found.group()
            ids += self.plain.encode(text[at : found.start()], add_special_tokens=False).ids
            ids.append(self.control[found.group()])
            at = found.end()
        return ids + self.plain.encode(text[at:], add_special_tokens=False).ids


@cache
def _without_control_tokens(family: Family) -> Tokenizer:
    data = json.loads(family_tokenizer(family).backend_tokenizer.to_str())
    for token in data["added_tokens"]:
        token["special"] = True
    plain = Tokenizer.from_str(json.dumps(data))
    plain.encode_special_tokens = True
    return plain


class ConversationEnv:
    """Plays one conversation: it notes what it was told and answers as planned."""

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.heard: list[str] = []
        self.reason: StopReason | None = None

    @property
    def unwrapped(self) -> Any:
        return self

    @property
    def episode(self) -> Episode:
        return Episode("conversation", stop_reason=self.reason)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        return "", {"messages": self.conversation.opening, "tools": self.conversation.tools}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.heard.append(action)
        if len(self.heard) > len(self.conversation.observations):
            self.reason = StopReason.ANSWERED
            return "", 0.0, True, False, {"success": False}
        observation = self.conversation.observations[len(self.heard) - 1]
        return "", 0.0, False, False, {"messages": observation}

    def stop(
        self, reason: StopReason, action: str = ""
    ) -> tuple[str, float, bool, bool, dict[str, Any]]:
        self.heard.append(action)
        self.reason = reason
        return "", 0.0, False, True, {"success": False}

    def close(self) -> None: ...


def resplit(ids: list[int], tokenizer: Any, rng: random.Random) -> list[int]:
    """Ids of the same bytes that no encoder gives: some tokens fall into parts of their own."""
    out: list[int] = []
    for token in ids:
        piece = str(tokenizer.convert_ids_to_tokens(token))
        if token in tokenizer.added_tokens_decoder or len(piece) == 1 or rng.random() < 0.4:
            out.append(token)
            continue
        cuts = [n for n in range(1, len(piece)) if _known(tokenizer, piece[:n], piece[n:])]
        cut = rng.choice(cuts)
        out += tokenizer.convert_tokens_to_ids([piece[:cut], piece[cut:]])
    return out


def _known(tokenizer: Any, *pieces: str) -> bool:
    vocabulary = _vocabulary(tokenizer)
    return all(p in vocabulary for p in pieces)


@cache
def _vocabulary(tokenizer: Any) -> dict[str, int]:
    found: dict[str, int] = tokenizer.get_vocab()
    return found

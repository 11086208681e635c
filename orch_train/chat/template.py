"""What a chat template does, found out by rendering probes with it and never by reading it.

Every probe is rendered as the run renders: with the same variables, and with tools where the run
passes tools. A tokenizer may hold one template for conversations with tools and another for those
without, and one template may branch on its tools.

The continuation after an assistant message is cut out of a rendering behind a marker that stands
for the message's text, so it holds for any template that writes the text verbatim and closes it
with one special token, whatever it does elsewhere.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, TypeAlias

from orch_env.types import OrchError
from orch_train.chat.control_tokens import ControlTokens

Message: TypeAlias = Mapping[str, Any]

# Encoded texts that are kept, the least recently used one goes first.
_KEPT = 256
_MARK = "zqxMARKzqx"
_QUESTION: Message = {"role": "user", "content": "x"}
_ANSWER: Message = {"role": "assistant", "content": _MARK}
# The same message as a model writes it that was made to open with its reasoning.
_REASONED = f"<think>\nzqx\n</think>\n\n{_MARK}"
# Templates without thinking put this into the generation prompt and drop it from the history.
_NO_REASONING = re.compile(r"<think>\s*</think>\s*")
# What templates of reasoning models drop from the history once the user speaks again.
_REASONING = re.compile(r"<think>.*?</think>\s*|<think>\s*", re.DOTALL)
# Stands for the run's tools wherever only their being there can matter.
_TOOL: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": "zqxTOOLzqx",
        "description": "x",
        "parameters": {"type": "object", "properties": {}},
    },
}


class UnsetVariable(OrchError):
    """A template reads a variable that nobody set: it refuses every message, not one role."""


class TemplateProbe:
    """One tokenizer's chat template, with what the probes found out about it.

    Args:
        tokenizer: a fast ``transformers`` tokenizer with a chat template.
        variables: further variables for the template.
        native_tools: whether conversations are rendered with ``tools=``; ``None``: if the template
            shows them.
        control: of the same tokenizer; made if it is not given.

    Attributes:
        name: where the tokenizer comes from.
        native_tools: see above.
        stop_id: the token that closes an assistant message.
        stop_text: its text.
        control: the tokens that only the template may write.
        lead: white space that the template writes between its header and the message; a model
            trained with the template samples it as part of the message.
    """

    def __init__(
        self,
        tokenizer: Any,
        variables: Mapping[str, Any],
        *,
        native_tools: bool | None = None,
        control: ControlTokens | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self.control = control or ControlTokens(tokenizer)
        self._variables = dict(variables)
        self._encoded: dict[str, array[int]] = {}
        self.name = str(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
        if not getattr(tokenizer, "chat_template", None):
            raise self.error("the tokenizer has none; set tokenizer.chat_template")
        self.native_tools = True
        self.native_tools = self._shows_tools() if native_tools is None else native_tools
        self.stop_text, self.stop_id = self._find_stop()
        self.lead = self._find_lead()

    def without_tools(self) -> TemplateProbe:
        """The same template for conversations to which no tools are passed.

        Raises:
            OrchError: it writes assistant messages otherwise without tools, so that one renderer
                cannot serve both.
        """
        if not self.native_tools:
            return self
        plain = TemplateProbe(
            self._tokenizer, self._variables, native_tools=False, control=self.control
        )
        if (plain.stop_id, plain.lead) != (self.stop_id, self.lead):
            raise self.error(
                f"it closes assistant messages with {self.stop_text!r} where there are tools and "
                f"with {plain.stop_text!r} where there are none, or opens them otherwise; set "
                "rollouts.system_tools to always"
            )
        return plain

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Any] | None = None,
        generation_prompt: bool,
    ) -> str:
        """The template's text.

        Args:
            messages: the conversation.
            tools: the tools, in OpenAI shape; without them one that stands for any, where
                conversations are rendered with ``tools=``.
            generation_prompt: whether the header of an answer follows.

        Raises:
            OrchError: the template raised; the message says what it said.
        """
        offered = list(tools or [_TOOL]) if self.native_tools else None
        try:
            text = self._tokenizer.apply_chat_template(
                [dict(m) for m in messages],
                tools=offered,
                add_generation_prompt=generation_prompt,
                tokenize=False,
                **self._variables,
            )
        except Exception as problem:  # templates raise whatever they like
            if re.fullmatch(r"'\w+' is undefined", str(problem)):
                hint = "set it in rollouts.chat_template_kwargs"
                raise UnsetVariable(str(self.error(f"{problem}; {hint}"))) from problem
            roles = ", ".join(str(m.get("role")) for m in messages)
            raise self.error(f"it refuses messages of roles {roles}: {problem}") from problem
        return str(text)

    def unread_variables(self) -> list[str]:
        """Further variables whose names do not even stand in the template's source."""
        given = self._tokenizer.chat_template
        source = "\n".join(given.values()) if isinstance(given, dict) else str(given)
        return [v for v in self._variables if re.search(rf"\b{v}\b", source) is None]

    def encode_whole(self, text: str) -> list[int]:
        """Ids of a complete rendering (the template writes its own special tokens).

        The members of a group ask for the same prompt, and often for the same observations, so
        the latest answers are kept.
        """
        ids = self._encoded.pop(text, None)
        if ids is None:
            ids = array("q", self.control.encode(_well_formed(text)))
            if len(self._encoded) >= _KEPT:
                del self._encoded[next(iter(self._encoded))]
        self._encoded[text] = ids
        return ids.tolist()

    def encode(self, text: str) -> list[int]:
        """Ids of text that stands inside a rendering.

        A special token is put before it and cut off again, so that tokenizers which treat the
        start of a text differently (a space in front) do not do so here.
        """
        ids = self.encode_whole(self.stop_text + text)
        if not ids or ids[0] != self.stop_id:
            raise self.error(f"{self.stop_text!r} is not kept whole in front of {text[:40]!r}")
        return ids[1:]

    def continuation(self, messages: Sequence[Message]) -> str:
        """What the template writes after an assistant message when ``messages`` follow it."""
        text = self.render([_QUESTION, _ANSWER, *messages], generation_prompt=True)
        return self._behind_mark(text)

    def tool_message(self, content: str, number: int, name: Any = None) -> Message:
        """A tool message that strict templates accept (a nine-character call id, a name)."""
        return {
            "role": "tool",
            "name": str(name or "tool"),
            "tool_call_id": f"{number:09d}",
            "content": content,
        }

    @cached_property
    def knows_system_role(self) -> bool:
        """Whether a system message is rendered rather than refused or dropped."""
        chat = [{"role": "system", "content": _MARK}, _QUESTION]
        try:
            return _MARK in self.render(chat, generation_prompt=True)
        except UnsetVariable:
            raise
        except OrchError:
            return False

    @cached_property
    def knows_tool_role(self) -> bool:
        """Whether ``tool`` messages mean anything to the template.

        A template that writes any role's name into the header accepts ``tool`` too, but a role
        that no model was trained on is no role: then the rendering differs from one of an
        invented role only by the name.
        """
        result = self.tool_message("content", 0)
        try:
            text = self.render([_QUESTION, _ANSWER, result], generation_prompt=True)
        except OrchError:
            return False
        if "content" not in text:
            return False
        try:
            invented = {**result, "role": "qqrolezz"}
            other = self.render([_QUESTION, _ANSWER, invented], generation_prompt=True)
        except OrchError:
            return True
        return text != other.replace("qqrolezz", "tool")

    def check_prefix_preserving(
        self, chat: Sequence[Message], results: Sequence[Message], tools: Sequence[Any] | None
    ) -> None:
        """Raise unless two rounds of tool use only ever append to what was rendered before.

        A template whose generation prompt opens the reasoning is checked with messages that
        hold some. Empty reasoning may be dropped from the history. Templates that insist on
        users and assistants in turn refuse the second round, and are judged by the first.

        Raises:
            OrchError: it names the template and shows where the renderings part.
        """
        problem = self._first_change(chat, results, tools, _MARK)
        if problem is not None and self._first_change(chat, results, tools, _REASONED) is not None:
            raise self.error(
                f"it is not prefix-preserving: after tool results it {problem}. Multi-turn "
                "training needs a template that only appends; use its training variant or set "
                "tokenizer.chat_template"
                + (", or try rollouts.system_tools: always" if self.native_tools else "")
            )

    @cached_property
    def drops_empty_thoughts(self) -> bool:
        """Whether the generation prompt holds an empty thought that the history does not."""
        prompt = self.render([_QUESTION], generation_prompt=True)
        if _NO_REASONING.search(prompt) is None:
            return False
        known = self.knows_tool_role
        further = self.tool_message("y", 0) if known else {"role": "user", "content": "y"}
        later = self.render([_QUESTION, _ANSWER, further], generation_prompt=True)
        return not later.startswith(prompt)

    @cached_property
    def change_by_users(self) -> str | None:
        """How the template rewrites what it rendered once the user speaks again, if it does.

        Some move the tools to the newest user message. That reasoning is dropped does not count:
        it stays in the stream.
        """

        def history(messages: Sequence[Message]) -> str:
            return _REASONING.sub("", self.render(messages, generation_prompt=True))

        conversation = [_QUESTION]
        before = history(conversation)
        for _ in range(2):
            conversation = [*conversation, _ANSWER, {"role": "user", "content": "y"}]
            after = history(conversation)
            if not after.startswith(before):
                return _where_they_part(before, after)
            added = after[len(before) :]
            if not added.lstrip().startswith(_MARK + self.stop_text):
                return f"rewrites the assistant message {_MARK!r} as {added[:80]!r}"
            before = after
        return None

    def _first_change(
        self,
        chat: Sequence[Message],
        results: Sequence[Message],
        tools: Sequence[Any] | None,
        content: str,
    ) -> str | None:
        answer = {"role": "assistant", "content": content}
        conversation = list(chat)
        before = self._history(conversation, tools)
        for number in range(2):
            conversation = [*conversation, answer, *results]
            try:
                after = self._history(conversation, tools)
            except OrchError:
                if number == 0:
                    raise
                return None
            if not after.startswith(before):
                return _where_they_part(before, after)
            added = after[len(before) :]
            message, mark, rest = added.partition(_MARK)
            # What a model samples is the message's text, or its end where the header opens it.
            if not mark or not content.endswith(message.lstrip() + mark):
                return f"rewrites the assistant message {content!r} as {added[:80]!r}"
            continuation = _NO_REASONING.sub("", self.continuation(results))
            if rest != self.stop_text + continuation:
                return f"continues with {rest[:80]!r} here but differently elsewhere"
            before = after
        return None

    def _history(self, messages: Sequence[Message], tools: Sequence[Any] | None) -> str:
        return _NO_REASONING.sub("", self.render(messages, tools=tools, generation_prompt=True))

    def _shows_tools(self) -> bool:
        """Whether ``tools=`` changes the rendering and shows the tool's name."""
        try:
            text = self.render([_QUESTION], generation_prompt=True)
        except UnsetVariable:
            raise
        except OrchError:
            return False
        return str(_TOOL["function"]["name"]) in text

    def _find_stop(self) -> tuple[str, int]:
        text = self.render([_QUESTION, _ANSWER], generation_prompt=False)
        if _MARK not in text:
            raise self.error("it does not write an assistant message verbatim")
        tail = text[text.rindex(_MARK) + len(_MARK) :]
        special = {t.content: i for i, t in self._tokenizer.added_tokens_decoder.items()}
        found = [t for t in special if t and tail.startswith(t)]
        if not found:
            raise self.error(
                f"an assistant message must be closed by a special token, it goes on with "
                f"{tail[:40]!r}"
            )
        stop = max(found, key=len)
        return stop, int(special[stop])

    def _find_lead(self) -> str:
        prompt = self.render([_QUESTION], generation_prompt=True)
        text = self.render([_QUESTION, _ANSWER], generation_prompt=False)
        between = text[: text.rindex(_MARK)]
        lead = between[len(prompt) :] if between.startswith(prompt) else ""
        return lead if lead.isspace() else ""

    def _behind_mark(self, text: str) -> str:
        tail = text[text.rindex(_MARK) + len(_MARK) :] if _MARK in text else ""
        if not tail.startswith(self.stop_text):
            raise self.error(
                f"it does not close an assistant message with {self.stop_text!r} when another "
                f"message follows, but with {tail[:40]!r}"
            )
        return tail[len(self.stop_text) :]

    def error(self, problem: str) -> OrchError:
        """The problem with the name of the tokenizer that the template is of."""
        return OrchError(f"chat template of {self.name}: {problem}")


def _well_formed(text: str) -> str:
    """Text without lone surrogates, which JSON can hold and no tokenizer can encode."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _where_they_part(before: str, after: str) -> str:
    at = next(
        (i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b),
        min(len(before), len(after)),
    )
    start = max(0, at - 20)
    return f"turns {before[start : at + 30]!r} into {after[start : at + 30]!r}"

"""Chat messages to token ids and back, without ever re-encoding what a model sampled.

A conversation is rendered twice only: once for the opening prompt, then, after each sampled
message, for what comes next. The second is the difference of two renderings on a synthetic
conversation: everything that the template writes after the end of an assistant message (the
unsampled tokens before the next header, the tool or user messages, the next generation prompt).
The stream is append-only. A template that rewrites what it rendered before is refused when the
renderer is built, not repaired turn by turn; templates that only drop earlier reasoning before a
new *user* message, or the empty reasoning that their generation prompt writes, are served, and the
reasoning stays in the stream. Control tokens spelt out in what users and tools write stay text (see
:mod:`orch_train.chat.control_tokens`).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from orch_env.formats import get_format
from orch_env.formats.protocol import CallFormat
from orch_env.types import OrchError, ToolSpec
from orch_train.chat.taught_format import asked_format, choose_format
from orch_train.chat.template import Message, TemplateProbe
from orch_train.chat.vocabulary import check_vocabulary
from orch_train.config import RolloutSettings, Settings
from orch_train.config.groups import SystemTools
from orch_train.models.files import load_embedding_rows, load_stop_ids, load_tokenizer

logger = logging.getLogger(__name__)

# Sets of tools that are kept ready.
_KEPT = 64


class ChatRenderer:
    """Renders prompts and observations for one tokenizer and one call format.

    Args:
        tokenizer: a fast ``transformers`` tokenizer with a chat template.
        call_format: how calls and results are written; its prompt offers the tools where the
            template does not.
        system_tools: ``auto`` puts the tools into the system message only if the template
            ignores ``tools=``; ``always`` and ``never`` decide by hand (``always`` is right when
            the template teaches another call syntax than ``call_format``).
        stop_token_ids: more ids that end a message, as models name them in their generation
            configuration (``load_stop_ids``); those that are no special tokens are left out,
            because a configuration that was never set says 2.
        template_kwargs: further variables for the template, such as ``enable_thinking=False`` or
            a fixed ``date_string`` for templates that print today's date.

    Attributes:
        stop_token_ids: ids that end an assistant message, the template's own first.
        tools_in_system: whether tools are offered in a system message.
        call_format: the name of the call format.
        native_tool_role: whether tool results are rendered as ``tool`` messages; otherwise they
            become one user message written by ``call_format``.
        keeps_empty_thoughts: whether the stream holds an empty thought before each answer that
            the template drops from the history.

    Raises:
        OrchError: there is no chat template, or it is not prefix-preserving.

    Example:
        >>> renderer = ChatRenderer(tokenizer, call_format)           # doctest: +SKIP
        >>> ids = renderer.start([{"role": "user", "content": "hi"}], tools=[])  # doctest: +SKIP
    """

    def __init__(
        self,
        tokenizer: Any,
        call_format: CallFormat,
        *,
        system_tools: SystemTools = "auto",
        stop_token_ids: Sequence[int] = (),
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        if system_tools not in ("auto", "always", "never"):
            raise OrchError(f"system_tools must be auto, always or never, got {system_tools!r}")
        self._tokenizer = tokenizer
        self._format = call_format
        self.call_format = call_format.name
        variables = dict(template_kwargs or {})
        native = {"auto": None, "always": False, "never": True}[system_tools]
        self._probe = TemplateProbe(tokenizer, variables, native_tools=native)
        stop_id = self._probe.stop_id
        added = tokenizer.added_tokens_decoder
        others = [i for i in stop_token_ids if i in added and added[i].special]
        others.insert(0, tokenizer.eos_token_id)
        self.stop_token_ids: tuple[int, ...] = tuple(
            dict.fromkeys([stop_id, *(i for i in others if isinstance(i, int))])
        )
        self.native_tool_role = self._probe.knows_tool_role
        self.tools_in_system = not self._probe.native_tools
        self.keeps_empty_thoughts = self._probe.drops_empty_thoughts
        self._offers: dict[str, Any] = {}
        self._check_prefix_preserving()

    def start(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec | Mapping[str, Any]] = ()
    ) -> list[int]:
        """Token ids of the opening prompt, generation prompt included.

        Args:
            messages: the chat so far, OpenAI shape (``role``, ``content``).
            tools: the tools on offer, as specs or in either of their JSON forms.

        Raises:
            OrchError: the template refuses the messages.
        """
        probe = self._probe_for(tools)
        chat = [self._guarded(m) for m in messages]
        native: list[Any] | None = None
        if tools and self.tools_in_system:
            chat = _with_system_text(chat, self._offer(tools))
        elif tools:
            native = self._offer(tools)
        if not probe.knows_system_role:
            chat = _system_into_user(chat)
        text = probe.render(chat, tools=native, generation_prompt=True)
        return probe.encode_whole(text)

    def observe(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec | Mapping[str, Any]] = ()
    ) -> list[int]:
        """Token ids to append after a sampled message that ended with its stop token.

        These are the unsampled boundary tokens between the end of the message and the next
        header, the messages, and the next generation prompt. Consecutive ``tool`` messages are
        rendered as one group, as the template does it.

        Args:
            messages: one or more ``tool`` or ``user`` messages.
            tools: what `start` was given.

        Raises:
            OrchError: there is no message, or one of another role, or the template rewrites the
                conversation when a user speaks again.
        """
        if not messages:
            raise OrchError("there is no message to observe; the episode has ended")
        wrong = {str(m.get("role")) for m in messages} - {"tool", "user"}
        if wrong:
            raise OrchError(
                f"an observation holds tool and user messages, not {', '.join(sorted(wrong))}"
            )
        if any(m.get("role") == "user" for m in messages):
            self.check_followups(tools)
        probe = self._probe_for(tools)
        return probe.encode(probe.continuation(self._tool_messages(messages, probe)))

    def warn_of_unread_kwargs(self) -> None:
        """Log a warning for each of ``template_kwargs`` that the template never reads."""
        for name in self._probe.unread_variables():
            logger.warning(
                "rollouts.chat_template_kwargs: the chat template of %s never reads %r",
                self._probe.name,
                name,
            )

    def check_followups(self, tools: Sequence[ToolSpec | Mapping[str, Any]]) -> None:
        """Raise unless a further user message only appends to a conversation with these tools.

        Raises:
            OrchError: the template moves the tools to the newest user message, say.
        """
        probe = self._probe_for(tools)
        if probe.change_by_users is None:
            return
        remedy = "use its training variant or set tokenizer.chat_template"
        if probe.native_tools:
            remedy = (
                "set rollouts.system_tools to always, so that the tools stay in the first message"
            )
        raise probe.error(
            f"it is not prefix-preserving: when the user speaks again it {probe.change_by_users}; "
            f"{remedy}"
        )

    def encode_action(self, text: str) -> list[int]:
        """The canonical ids of an assistant message, its stop token included.

        For demonstrations only: what a model sampled is never encoded again.
        """
        return [*self._probe.encode(self._probe.lead + text), self._probe.stop_id]

    def decode(self, action_ids: Sequence[int]) -> str:
        """The text of a sampled message: a closing stop token is cut off, all else is kept.

        Special tokens inside the message stay visible (some tokenizers hold ``<tool_call>`` as
        one). The result is for parsing; it never goes back into the stream.
        """
        ids = list(action_ids)
        if ids and ids[-1] in self.stop_token_ids:
            ids.pop()
        text: str = self._tokenizer.decode(
            ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        lead = self._probe.lead
        return text[len(lead) :] if lead and text.startswith(lead) else text

    def _probe_for(self, tools: Sequence[Any]) -> TemplateProbe:
        """The template as it is for conversations with these tools, or without any."""
        return self._probe if tools else self._plain

    @cached_property
    def _plain(self) -> TemplateProbe:
        return self._probe.without_tools()

    def _tool_messages(self, messages: Sequence[Message], probe: TemplateProbe) -> list[Message]:
        """Number the tool messages, or fold each run of them into one user message."""
        out: list[Message] = []
        run: list[str] = []
        guarded = [self._guarded(m) for m in messages]
        for number, message in enumerate([*guarded, {"role": "end"}]):
            if message["role"] == "tool":
                content = str(message.get("content") or "")
                if probe.knows_tool_role:
                    out.append(probe.tool_message(content, number, message.get("name")))
                else:
                    run.append(content)
                continue
            if run:
                out.append({"role": "user", "content": self._format.render_results(run)})
                run = []
            if message["role"] != "end":
                out.append(dict(message))
        return out

    def _guarded(self, message: Message) -> Message:
        """The message with no control token spelt out in it, unless it is of our own side."""
        if message.get("role") not in ("tool", "user"):
            return message
        guarded: Message = self._probe.control.guard_json(message)
        return guarded

    def _offer(self, tools: Sequence[ToolSpec | Mapping[str, Any]]) -> Any:
        """The system message's text that offers the tools, or the template's ``tools``.

        No control token is spelt out in it: servers describe their tools. Guarding and rendering
        many tools takes milliseconds, and episodes share them, so the answer is kept by their JSON.
        """
        given = [tool.to_dict() if isinstance(tool, ToolSpec) else tool for tool in tools]
        key = json.dumps(given, default=dict)
        if key not in self._offers:
            if len(self._offers) >= _KEPT:
                self._offers.clear()
            plain = (ToolSpec.from_dict(tool).to_dict() for tool in given)
            specs = [ToolSpec.from_dict(self._probe.control.guard_json(p)) for p in plain]
            self._offers[key] = (
                self._format.render_tools(specs)
                if self.tools_in_system
                else [spec.to_openai() for spec in specs]
            )
        return self._offers[key]

    def _check_prefix_preserving(self) -> None:
        tools: list[ToolSpec] = [ToolSpec("find_item", "Finds an item.")]
        chat: list[Message] = [{"role": "user", "content": "Where is it?"}]
        native = None
        if self.tools_in_system:
            chat = _with_system_text(chat, "You may call find_item.")
            chat = chat if self._probe.knows_system_role else _system_into_user(chat)
        else:
            native = [t.to_openai() for t in tools]
        results = self._tool_messages(
            [{"role": "tool", "content": "one"}, {"role": "tool", "content": "two"}], self._probe
        )
        self._probe.check_prefix_preserving(chat, results, native)


def make_chat(settings: Settings) -> ChatRenderer:
    """The chat renderer of a configuration's tokenizer and call format.

    Raises:
        OrchError: no tokenizer there, or its template is not usable.
    """
    return chat_of_model(settings.model.path, asked_format(settings), settings.rollouts)


def chat_of_model(path: str, call_format: str | None, limits: RolloutSettings) -> ChatRenderer:
    """The chat renderer of a model.

    Args:
        path: the model.
        call_format: how it writes calls, as for
            :func:`~orch_train.chat.taught_format.choose_format`.
        limits: how its template is used is read from here.

    Raises:
        OrchError: no tokenizer there, its template is not usable or teaches another format, or it
            has tokens that the model has no embedding for.
    """
    tokenizer = load_tokenizer(path)
    variables, system_tools = limits.chat_template_kwargs, limits.system_tools
    name = choose_format(call_format, tokenizer, system_tools=system_tools, variables=variables)
    chat = ChatRenderer(
        tokenizer,
        get_format(name),
        system_tools=system_tools,
        stop_token_ids=load_stop_ids(path),
        template_kwargs=variables,
    )
    check_vocabulary(tokenizer, load_embedding_rows(path), path, chat.stop_token_ids)
    return chat


def _with_system_text(chat: Sequence[Message], text: str) -> list[Message]:
    """The chat with ``text`` added to its system message, which is made if there is none."""
    if chat and chat[0].get("role") == "system":
        head = str(chat[0].get("content") or "")
        merged = f"{head}\n\n{text}" if head else text
        return [{**chat[0], "content": merged}, *chat[1:]]
    return [{"role": "system", "content": text}, *chat]


def _system_into_user(chat: Sequence[Message]) -> list[Message]:
    """For templates without a system role: its text opens the first user message."""
    if not chat or chat[0].get("role") != "system":
        return list(chat)
    system, rest = str(chat[0].get("content") or ""), list(chat[1:])
    if rest and rest[0].get("role") == "user":
        body = f"{system}\n\n{rest[0].get('content') or ''}"
        return [{**rest[0], "content": body}, *rest[1:]]
    return [{"role": "user", "content": system}, *rest]

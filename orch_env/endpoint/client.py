"""Asks a chat endpoint: many requests at once, in order, within limits of time and money."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from orch_env.endpoint.answers import Answer, AnswerStore, key_of_request
from orch_env.types import OrchError
from orch_env.types.json import JsonObject
from orch_env.types.text import shortened

_BYTES_A_TOKEN = 3
"""For the estimate of a request's cost before it is made."""


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """Where and how to ask.

    Attributes:
        url: base URL, up to and with ``/v1``.
        model: name of the model there.
        api_key_env: environment variable that holds the key; the key is stored nowhere.
        temperature: of sampling.
        max_tokens: of an answer.
        timeout_s: seconds for one attempt.
        retries: further attempts after a time-out, a lost connection, or status 408, 409, 429 or
            5xx; the waits grow, and ``Retry-After`` is kept to.
        concurrency: requests at once.
        price_in: price of a million prompt tokens, for the spend limit.
        price_out: price of a million tokens of answers.
        spend_limit: what all requests may cost together: those of this client, and those of every
            process that ever used the same ``answers``; ``None``: no limit.
        answers: file of answers and their costs (SQLite); ``None`` keeps none.
    """

    url: str
    model: str
    api_key_env: str = "OPENAI_API_KEY"
    temperature: float = 0.8
    max_tokens: int = 512
    timeout_s: float = 60.0
    retries: int = 4
    concurrency: int = 8
    price_in: float = 0.0
    price_out: float = 0.0
    spend_limit: float | None = None
    answers: str | Path | None = None


class Endpoint:
    """A client of one model behind one endpoint.

    Args:
        settings: where and how to ask.

    Attributes:
        spent: cost of this client's requests so far, by the given prices; answers from the store
            are free. A request whose tokens the endpoint does not tell costs what was expected.
        asked: requests that went out.

    Raises:
        OrchError: the package ``openai`` is missing, or a setting is out of range.
    """

    def __init__(self, settings: EndpointSettings) -> None:
        if settings.spend_limit is not None and settings.price_in + settings.price_out <= 0:
            raise OrchError("a spend limit needs prices: give price_in and price_out")
        if min(settings.concurrency, settings.max_tokens) < 1 or settings.timeout_s <= 0:
            raise OrchError("concurrency, max_tokens and timeout_s must be positive")
        self.settings = settings
        self.spent = 0.0
        self.asked = 0
        self._lock = threading.Lock()
        self._store = AnswerStore(settings.answers)

    @cached_property
    def _client(self) -> Any:
        try:
            from openai import OpenAI
        except ModuleNotFoundError as problem:
            raise OrchError(
                f"an endpoint needs the package {problem.name!r}: pip install 'orch-rl[synth]'"
            ) from problem
        settings = self.settings
        return OpenAI(
            base_url=settings.url,
            api_key=os.environ.get(settings.api_key_env) or "none",
            timeout=settings.timeout_s,
            max_retries=settings.retries,
        )

    def ask(
        self,
        requests: Sequence[JsonObject],
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Answer]:
        """Answer requests, in their order; answers that are in the store are not asked for.

        Args:
            requests: each ``{messages, tools?, seed?, ...}``: arguments of a chat completion, over
                the settings.
            progress: called with (done, total).

        Raises:
            OrchError: the endpoint refuses the key or has no such model, or nothing answers there.
                What was answered before is in the store.
        """
        done = 0
        found: list[Answer] = []
        with ThreadPoolExecutor(self.settings.concurrency) as pool:
            waiting = [pool.submit(self._one, request) for request in requests]
            try:
                for future in waiting:
                    found.append(future.result())
                    done += 1
                    if progress is not None:
                        progress(done, len(requests))
            finally:
                for future in waiting:
                    future.cancel()
        return found

    def _one(self, request: JsonObject) -> Answer:
        settings = self.settings
        whole: JsonObject = {
            "model": settings.model,
            "temperature": settings.temperature,
            "max_tokens": settings.max_tokens,
            **request,
        }
        key = key_of_request({"url": settings.url, **whole})
        stored = self._store.get(key)
        if stored is not None:
            return stored
        estimate = self._estimate(whole)
        number = self._store.reserve(estimate, settings.spend_limit)
        if number is None:
            return Answer(None, "spend_limit")
        with self._lock:
            self.asked += 1
        cost = estimate  # where the endpoint does not tell, or may count what timed out
        try:
            answer = self._asked(whole)
            if answer.prompt_tokens or (answer.error or "").startswith("status_"):
                cost = self._cost(answer.prompt_tokens, answer.completion_tokens)
        finally:
            self._store.settle(number, cost)
            with self._lock:
                self.spent += cost
        if answer.message is not None:
            self._store.put(key, answer)
        return answer

    def _estimate(self, request: JsonObject) -> float:
        prompt = f"{request.get('messages')}{request.get('tools') or ''}".encode()
        return self._cost(len(prompt) // _BYTES_A_TOKEN + 1, int(request["max_tokens"]))

    def _cost(self, prompt: int, completion: int) -> float:
        return (prompt * self.settings.price_in + completion * self.settings.price_out) / 1e6

    def _asked(self, request: JsonObject) -> Answer:
        import openai

        where = f"endpoint {self.settings.url!r}"
        try:
            reply = self._client.chat.completions.create(**request)
        except openai.APITimeoutError:
            return Answer(None, "timeout")
        except openai.APIConnectionError as problem:
            raise OrchError(
                f"{where} cannot be reached ({problem.__cause__ or problem}): is it running, and "
                "does the URL end in /v1?"
            ) from problem
        except openai.AuthenticationError as problem:
            raise OrchError(
                f"{where} refuses the key: put the right one into {self.settings.api_key_env}"
            ) from problem
        except openai.NotFoundError as problem:
            said = shortened(str(problem), 120)
            raise OrchError(f"{where} has no model {self.settings.model!r}: {said}") from problem
        except openai.APIStatusError as problem:
            return Answer(None, f"status_{problem.status_code}")
        except (openai.OpenAIError, ValueError):  # a body that is no JSON, or another JSON
            return Answer(None, "no_message")
        return _answer(reply)

    def close(self) -> None:
        """Close the file of answers and the connections."""
        self._store.close()
        if "_client" in vars(self):
            self._client.close()


def only_model(url: str, api_key_env: str = "OPENAI_API_KEY") -> str:
    """The name of the one model behind an endpoint.

    Args:
        url: base URL.
        api_key_env: environment variable that holds the key.

    Raises:
        OrchError: it cannot be asked, or has no model or several.
    """
    import openai

    key = os.environ.get(api_key_env) or "none"
    try:
        with openai.OpenAI(base_url=url, api_key=key, timeout=20.0, max_retries=1) as client:
            names = [model.id for model in client.models.list()]
    except (openai.OpenAIError, ValueError, AttributeError, TypeError) as problem:
        raise OrchError(
            f"endpoint {url!r} does not tell its models ({shortened(str(problem), 80)}): name one"
        ) from problem
    if len(names) != 1:
        raise OrchError(
            f"endpoint {url!r} has {len(names)} models ({', '.join(names[:5])}): name one"
        )
    return names[0]


def _answer(reply: Any) -> Answer:
    """The answer of a reply; what is no chat completion has no message."""
    try:
        message = reply.choices[0].message.model_dump(mode="json", exclude_none=True)
    except (AttributeError, IndexError, TypeError):
        return Answer(None, "no_message")
    usage = getattr(reply, "usage", None)
    return Answer(
        message,
        None,
        int(getattr(usage, "prompt_tokens", 0) or 0),
        int(getattr(usage, "completion_tokens", 0) or 0),
    )

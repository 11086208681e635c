"""Secrets of a server's configuration: kept out of every text that leaves this folder."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable
from urllib.parse import quote
from weakref import WeakSet

REDACTED = "[redacted]"

LOGGERS = (
    "client",
    "httpcore2.connection",
    "httpcore2.http11",
    "httpcore2.http2",
    "httpcore2.proxy",
    "httpx2",
    "mcp.client.sse",
    "mcp.client.streamable_http",
    "mcp.shared.jsonrpc_dispatcher",
)
"""Loggers of the SDK and of its HTTP client that write what a server sent, or a URL."""


class Secrets:
    """Values that no text may show.

    Args:
        values: the values; each is also found as JSON and URLs write it.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        forms: set[str] = set()
        for value in values:
            forms |= {value, quote(value, safe=""), json.dumps(value)[1:-1]}
            forms.add(json.dumps(value, ensure_ascii=False)[1:-1])
        longest_first = sorted(forms - {""}, key=lambda form: (-len(form), form))
        self._pattern = re.compile("|".join(map(re.escape, longest_first))) if forms else None

    def redact(self, text: str) -> str:
        """The text with ``[redacted]`` for each secret."""
        return text if self._pattern is None else self._pattern.sub(REDACTED, text)

    def guard_logs(self) -> None:
        """Redact what other packages log, for as long as this object lives."""
        _guarded.add(self)
        for name in LOGGERS:
            logging.getLogger(name).addFilter(_redact_record)  # the same filter is added once


_guarded: WeakSet[Secrets] = WeakSet()
_formatter = logging.Formatter()


def _redact_record(record: logging.LogRecord) -> bool:
    text, raised = record.getMessage(), record.exc_text
    if record.exc_info and not raised:
        raised = _formatter.formatException(record.exc_info)
    for secrets in _guarded:
        text = secrets.redact(text)
        raised = secrets.redact(raised) if raised else raised
    record.msg, record.args, record.exc_info, record.exc_text = text, (), None, raised
    return True

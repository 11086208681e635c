"""The ``mcpServers`` file that people already have, read and checked.

``{"mcpServers": {NAME: {"command", "args", "env", "cwd"} or {"url", "headers"}}}``; VS Code's
``servers`` is read as well. ``${VAR}``, ``${env:VAR}`` and ``${VAR:-default}`` come from the
environment. Keys of other programs are left out with one warning. What this project adds stands
under ``"orch"``, of a server or of the file.

Secrets are: every header, except those that name a content type or a program; every value of
``env`` with six characters or more, or under a name that sounds like a secret; an argument after a
flag with such a name; what a URL carries after ``?`` or before ``@``; and what a variable with such
a name brings in anywhere else. A value with the folder's placeholder is none, nor is one
whose name is listed in ``"public"``.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from orch_env.backends.mcp.folder import PLACEHOLDER
from orch_env.backends.mcp.secrets import Secrets
from orch_env.types import OrchError

TIMEOUT_S = 30.0
"""Seconds that a call may take, unless ``orch.timeout`` says otherwise."""
START_TIMEOUT_S = 60.0
"""Seconds that a server may take until it has listed its tools."""
AHEAD = 1
"""Episodes for which servers are started before they are asked for."""

_HTTP = ("http", "streamable-http", "streamableHttp", "streamable_http")
_TYPES = ("stdio", "local", "sse", *_HTTP)
_KEYS = frozenset(
    {"command", "args", "env", "cwd", "url", "headers", "type", "transport", "disabled", "orch"}
)
_ALSO_URL = ("serverUrl", "httpUrl")
_PLAIN_HEADERS = frozenset({"accept", "content-type", "user-agent"})
_VARIABLE = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_OTHER_VARIABLE = re.compile(r"\$\{[^}]*\}")
_FOLDER_VARIABLES = ("workspaceFolder",)
_SOUNDS_SECRET = re.compile(
    r"key|token|secret|pass|pwd|auth|cred|cookie|session|private", re.IGNORECASE
)
_LEAST, _LEAST_NAMED = 6, 3


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """One server of the file.

    Attributes:
        name: its name in the file.
        command: the program, ``None`` for a remote server.
        args: its arguments, perhaps with the folder's placeholder; so are ``env`` and ``cwd``.
        env: variables besides the few that every program gets.
        cwd: the folder in which it runs, ``None`` for the episode's if it has one.
        url: of a remote server.
        headers: of each request to a remote server.
        sse: whether it speaks the old transport of two endpoints.
        folder: whether it uses the episode's folder.
        template: a folder whose content each episode's folder begins with.
        timeout_s: seconds that a call may take.
        start_timeout_s: seconds that starting may take.
        stateless: whether one server answers all episodes.
        parallel: whether calls of one message are asked at the same time. ``None``: they are, but
            at a remote server not beside a call of a tool that says that it writes: requests of
            their own may arrive in any order.
    """

    name: str
    command: str | None = None
    args: tuple[str, ...] = field(default=(), repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = None
    url: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    sse: bool = False
    folder: bool = False
    template: Path | None = None
    timeout_s: float = TIMEOUT_S
    start_timeout_s: float = START_TIMEOUT_S
    stateless: bool = False
    parallel: bool | None = None


@dataclass(frozen=True, slots=True)
class McpFile:
    """What a file says.

    Attributes:
        path: where it is.
        servers: name -> server, in the file's order, without those that are switched off.
        secrets: what no text may show.
        ahead: episodes for which servers are started before they are asked for.
    """

    path: str
    servers: Mapping[str, ServerConfig]
    secrets: Secrets = field(repr=False)
    ahead: int = AHEAD


def read_file(path: str | os.PathLike[str]) -> McpFile:
    """Read an ``mcpServers`` file.

    Raises:
        OrchError: it cannot be read or is wrong; the message has the place and what to do.
    """
    where = os.fspath(path)
    try:
        data = json.loads(Path(where).read_text(encoding="utf-8"))
    except OSError as problem:
        raise OrchError(f"{where}: cannot be read ({problem.strerror})") from problem
    except ValueError as problem:
        raise OrchError(f"{where}: is no JSON ({problem})") from None
    return _Reader(where).file(data)


class _Reader:
    """Reads one file and collects its secrets and the keys that it does not know."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._base = Path(where).resolve().parent
        self._secrets: set[str] = set()
        self._unknown: list[str] = []

    def file(self, data: Any) -> McpFile:
        known = [key for key in ("mcpServers", "servers") if key in self._object(data, "")]
        if len(known) != 1:
            raise self._wrong("", 'must have one key "mcpServers" with the servers by name')
        listed = self._object(data[known[0]], known[0])
        own = self._own(data, "", {"ahead": int})
        self._unknown += [key for key in data if key not in (known[0], "orch")]
        servers = {
            name: self._server(name, entry, f"{known[0]}/{name}")
            for name, entry in listed.items()
            if not self._object(entry, f"{known[0]}/{name}").get("disabled")
        }
        if not servers:
            raise self._wrong(known[0], "has no server that is switched on")
        if self._unknown:
            warnings.warn(
                f"{self._where}: keys that are not read: {', '.join(sorted(self._unknown))}",
                stacklevel=4,
            )
        ahead = own.get("ahead", AHEAD)
        if ahead < 0:
            raise self._wrong("orch/ahead", f"must be at least 0, got {ahead}")
        secrets = Secrets(self._secrets)
        secrets.guard_logs()
        return McpFile(self._where, servers, secrets, ahead)

    def _server(self, name: str, entry: Any, at: str) -> ServerConfig:
        self._unknown += [
            f"{at}/{key}" for key in entry if key not in _KEYS and key not in _ALSO_URL
        ]
        if not name or "__" in name:
            raise self._wrong(at, "a server's name must not be empty or hold '__'")
        kind = entry.get("type", entry.get("transport"))
        if kind is not None and kind not in _TYPES:
            raise self._wrong(f"{at}/type", f"is {kind!r}; known: {', '.join(_TYPES)}")
        url = next((entry[k] for k in ("url", *_ALSO_URL) if entry.get(k) is not None), None)
        remote = kind not in ("stdio", "local") and url is not None
        if (entry.get("command") is None) == (url is None) or (kind in _TYPES[2:] and not remote):
            raise self._wrong(
                at, 'needs "command" (a program to start) or "url" (a remote server), not both'
            )
        own = self._own(entry, at, _OWN)
        public = tuple(own.get("public", ()))
        common: dict[str, Any] = {
            "timeout_s": self._seconds(own, "timeout", TIMEOUT_S, at),
            "start_timeout_s": self._seconds(own, "start_timeout", START_TIMEOUT_S, at),
            "stateless": own.get("stateless", False),
            "parallel": own.get("parallel"),
        }
        if remote:
            for word in ("folder", "template"):
                if own.get(word):
                    raise self._wrong(f"{at}/orch/{word}", "a remote server has no folder of ours")
            return ServerConfig(
                name,
                url=self._url(url, f"{at}/url"),
                headers=self._headers(entry.get("headers") or {}, f"{at}/headers", public),
                sse=kind == "sse",
                **common,
            )
        made = self._local(name, entry, own, at, public, common)
        if made.stateless and made.folder:
            raise self._wrong(
                f"{at}/orch/stateless",
                "a stateless server answers all episodes, so it cannot have an episode's folder",
            )
        return made

    def _local(
        self,
        name: str,
        entry: Mapping[str, Any],
        own: Mapping[str, Any],
        at: str,
        public: tuple[str, ...],
        common: dict[str, Any],
    ) -> ServerConfig:
        command = self._text(entry["command"], f"{at}/command")
        args = entry.get("args") or []
        if not isinstance(args, list):
            raise self._wrong(f"{at}/args", f"must be a list of texts, got {args!r:.60}")
        read = tuple(self._text(arg, f"{at}/args/{n}") for n, arg in enumerate(args))
        for flag, value in zip(read, (*read[1:], ""), strict=False):
            option, joined, rest = flag.partition("=")
            if option.startswith("-") and _SOUNDS_SECRET.search(option):
                self._keep(rest if joined else value, named=True)
        env = {
            variable: self._env(variable, value, f"{at}/env/{variable}", public)
            for variable, value in self._object(entry.get("env") or {}, f"{at}/env").items()
        }
        cwd = entry.get("cwd")
        if cwd is not None:
            cwd = self._text(cwd, f"{at}/cwd")
            if PLACEHOLDER not in cwd:
                cwd = str(self._base / Path(cwd).expanduser())
                if not os.path.isdir(cwd):
                    raise self._wrong(f"{at}/cwd", f"is no folder: {cwd}")
        template = None
        if own.get("template") is not None:
            template = self._base / Path(self._text(own["template"], at)).expanduser()
            if not template.is_dir():
                raise self._wrong(f"{at}/orch/template", f"is no folder: {template}")
        texts = (command, *read, *env.values(), cwd or "")
        named = any(PLACEHOLDER in text for text in texts)
        folder = own.get("folder", named or template is not None)
        if (named or template is not None) and not folder:
            raise self._wrong(f"{at}/orch/folder", "is false, but the server uses the folder")
        return ServerConfig(
            name, command, read, env, cwd, folder=folder, template=template, **common
        )

    # -- values ------------------------------------------------------------------------------

    def _text(self, value: Any, at: str, *, secret: bool = False) -> str:
        """A text with its variables filled in."""
        if not isinstance(value, str) or "\0" in value:
            raise self._wrong(at, f"must be a text, got {value!r:.60}")

        def fill(match: re.Match[str]) -> str:
            name, default = match[1], match[2]
            found = os.environ.get(name) or default
            if found is None and name in _FOLDER_VARIABLES:
                return PLACEHOLDER
            if found is None:
                raise self._wrong(
                    at, f"the variable {name} is not set; write ${{{name}:-...}} for a default"
                )
            if secret or _SOUNDS_SECRET.search(name):
                self._keep(found, named=True)
            return found

        filled = _VARIABLE.sub(fill, value)
        other = _OTHER_VARIABLE.search(_VARIABLE.sub("", value))
        if other:
            raise self._wrong(at, f"{other[0]} is no variable of the environment, as ${{NAME}} is")
        return filled

    def _env(self, name: str, value: Any, at: str, public: tuple[str, ...]) -> str:
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        text = self._text(value, at)
        if name not in public and PLACEHOLDER not in text:
            self._keep(text, named=bool(_SOUNDS_SECRET.search(name)))
        return text

    def _headers(self, given: Any, at: str, public: tuple[str, ...]) -> dict[str, str]:
        headers = {}
        for name, value in self._object(given, at).items():
            headers[name] = text = self._text(value, f"{at}/{name}")
            if name.lower() not in _PLAIN_HEADERS and name not in public:
                self._keep(text, named=True)
                self._keep(text.partition(" ")[2], named=True)  # after "Bearer"
        return headers

    def _url(self, value: Any, at: str) -> str:
        url = self._text(value, at)
        try:
            parts = urlsplit(url)
            host = parts.hostname
        except ValueError:
            host = None
        if not host or parts.scheme not in ("http", "https"):
            raise self._wrong(at, "must be an http:// or https:// address")
        for text in (parts.username, parts.password, *(v for _, v in parse_qsl(parts.query))):
            self._keep(unquote(text or ""), named=True)
        return url

    def _keep(self, value: str, *, named: bool) -> None:
        if len(value) >= (_LEAST_NAMED if named else _LEAST):
            self._secrets.add(value)

    def _seconds(self, own: Mapping[str, Any], key: str, default: float, at: str) -> float:
        value = float(own.get(key, default))
        if not 0 < value < float("inf"):
            raise self._wrong(f"{at}/orch/{key}", f"must be seconds above 0, got {value!r}")
        return value

    def _own(self, entry: Mapping[str, Any], at: str, known: Mapping[str, Any]) -> dict[str, Any]:
        """The settings under ``orch``; unlike other programs' keys, a wrong one is an error."""
        at = f"{at}/orch".removeprefix("/")
        own = dict(self._object(entry.get("orch") or {}, at))
        for key, value in own.items():
            if key not in known:
                raise self._wrong(f"{at}/{key}", f"is no setting; known: {', '.join(known)}")
            kind = known[key]
            if not isinstance(value, kind) or (kind is not bool and isinstance(value, bool)):
                raise self._wrong(f"{at}/{key}", f"is {value!r:.60}: a wrong type")
        return own

    def _object(self, value: Any, at: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._wrong(at, f"must be a JSON object, got {type(value).__name__}")
        return value

    def _wrong(self, at: str, what: str) -> OrchError:
        return OrchError(f"{self._where}: {at + ': ' if at else ''}{what}")


_OWN: dict[str, Any] = {
    "folder": bool,
    "template": str,
    "timeout": int | float,
    "start_timeout": int | float,
    "stateless": bool,
    "parallel": bool,
    "public": list,
}

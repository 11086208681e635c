"""Several servers in one episode: one seed, one clock, and one name for each tool."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from orch_env.servers.framework.server import Server, Tool
from orch_env.servers.framework.session import ServerSession
from orch_env.types import ErrorType, OrchError, ToolResult
from orch_env.types.json import Json, JsonObject


def names_of_tools(tools: Mapping[str, Iterable[str]]) -> dict[str, tuple[str, str]]:
    """Name as the model sees it -> (server, tool), over all tools of some servers.

    A tool has its own name. Where two servers share one, both tools are called ``server__tool``.

    Args:
        tools: server -> names of its tools.
    """
    pairs = [(server, tool) for server, names in tools.items() for tool in names]
    count = Counter(tool for _, tool in pairs)
    return {
        tool if count[tool] == 1 else f"{server}__{tool}": (server, tool) for server, tool in pairs
    }


def open_sessions(
    servers: Iterable[type[Server]], seed: int, today: str | None = None
) -> dict[str, ServerSession]:
    """Server name -> a new session, all on one clock.

    Args:
        servers: the server classes; the first one's date is the episode's unless ``today`` is.
        seed: of the servers' worlds.
        today: the episode's date or date and time, ISO 8601.

    Raises:
        OrchError: ``today`` is no date.
    """
    sessions: dict[str, ServerSession] = {}
    clock = None
    for server in servers:
        session = ServerSession(server, seed, today, clock=clock)
        clock = session.clock
        sessions[server.name] = session
    return sessions


class ServerEpisode:
    """One isolated episode of some servers.

    Args:
        servers: the server classes; the first one's date is the episode's unless ``today`` is.
        seed: of the servers' worlds.
        today: the episode's date or date and time, ISO 8601.

    Raises:
        OrchError: ``today`` is no date.

    Attributes:
        seed: of the servers' worlds now; :meth:`restore` may change it.
        tools: name as the model sees it -> tool, whose spec has that name.
        sessions: server name -> its session.
    """

    def __init__(
        self, servers: Sequence[type[Server]], seed: int = 0, today: str | None = None
    ) -> None:
        self._servers = tuple(servers)
        by_name = {server.name: server.tools for server in servers}
        self._owners = names_of_tools(by_name)
        self.tools: Mapping[str, Tool] = {
            name: replace(by_name[server][own], spec=replace(by_name[server][own].spec, name=name))
            for name, (server, own) in self._owners.items()
        }
        self.reset(seed, today)

    def reset(self, seed: int, today: str | None = None) -> None:
        """Start again from the beginning of a world.

        Raises:
            OrchError: ``today`` is no date; the episode is as before.
        """
        self.seed, self.sessions = seed, open_sessions(self._servers, seed, today)

    @property
    def now(self) -> str:
        """The episode's time, ISO 8601 without a zone."""
        return next(iter(self.sessions.values())).clock.now.isoformat(timespec="minutes")

    def call(self, name: str, arguments: Mapping[str, Json]) -> ToolResult:
        """Run one tool, as :meth:`ServerSession.call` does."""
        if name in self._owners:
            server, own = self._owners[name]
            return self.sessions[server].call(own, arguments)
        first = next(iter(self.sessions.values()))
        if len(self.sessions) == 1:
            return first.call(name, arguments)
        first.clock.move()
        known = ", ".join(self._owners)
        return ToolResult.failure(ErrorType.UNKNOWN_TOOL, f"No tool {name[:60]!r}. Tools: {known}.")

    def state_hash(self) -> JsonObject:
        """Server name -> hex digest of its state."""
        return {name: session.state_hash() for name, session in self.sessions.items()}

    def snapshot(self) -> JsonObject:
        """The seed and the state of each server, as plain data."""
        states = {name: session.snapshot() for name, session in self.sessions.items()}
        return {"seed": self.seed, "servers": states}

    def restore(self, state: JsonObject) -> None:
        """Go back to a snapshot, whatever the seed it was taken with.

        Raises:
            OrchError: it is no snapshot of these servers; the episode is as before.
        """
        before = self.seed, self.sessions
        try:
            self.reset(state["seed"])
            if set(state["servers"]) != set(self.sessions):
                raise OrchError(f"it is of other servers: {', '.join(state['servers'])}")
            for name, session in self.sessions.items():
                session.restore(state["servers"][name])
        except (OrchError, AttributeError, KeyError, TypeError, ValueError) as problem:
            self.seed, self.sessions = before
            raise OrchError(
                f"the snapshot cannot be restored in an episode of {', '.join(before[1])}: "
                f"{problem if isinstance(problem, OrchError) else 'it has another form'}"
            ) from problem

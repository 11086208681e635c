"""The world: a company's file server, as one of its people sees it.

What can be asked about is unique: each supplier sent the user one invoice, and invoices, offers
and tickets have numbers of their own.
"""

from __future__ import annotations

from datetime import date, timedelta

from orch_env.servers.domains.filesystem.nodes import Account, Kind, Member, Node, Shell
from orch_env.servers.domains.filesystem.volume import Volume, parent_of
from orch_env.servers.framework.chance import Chance, words

NUM_COLLEAGUES = 5
FREE_BYTES = 32 * 1024
"""How much more than at the start the user's files may hold."""
MAX_NODES = 600
EXTRA_GROUPS = ("finance", "design", "operations", "research")
PARTS = ("parser", "report", "loader", "export", "search", "login", "billing", "mail")
TOPICS = ("budget", "hiring", "roadmap", "offsite", "security", "website", "suppliers", "training")
TASKS = (
    "send the offer to {company}",
    "call {company} about the delivery",
    "ask {person} for the new figures",
    "review the draft of {person}",
    "book a room for the meeting with {company}",
    "update the price list",
    "clean up the shared folder",
    "check the backup of last week",
)


def fill(volume: Volume, chance: Chance) -> None:
    """Fill the tables of a new world."""
    people = [name.lower() for name in chance.draw(_plain("first_names"), NUM_COLLEAGUES + 1)]
    user, *colleagues = people
    team = chance.pick(EXTRA_GROUPS)
    volume.accounts["root"] = Account("root", ("root",))
    volume.accounts[user] = Account(user, (user, "staff", team))
    for number, name in enumerate(colleagues):
        extra = (team,) if number < 2 else ()
        volume.accounts[name] = Account(name, (name, "staff", *extra))
    writer = _Writer(volume, chance, user, colleagues, team)
    writer.system()
    writer.home()
    writer.shared()
    for name in colleagues:
        writer.colleague(name)
    used = sum(n.bytes for n in volume.nodes.values() if n.owner == user and n.kind is Kind.FILE)
    limit = (used + FREE_BYTES) // 1024 * 1024
    volume.shells["shell"] = Shell(user, f"/home/{user}", "0022", limit, MAX_NODES)


def _plain(name: str) -> tuple[str, ...]:
    return tuple(word for word in words(name) if word.isascii() and word.isalpha())


class _Writer:
    """Writes the folders of one world; each method is one part of the tree."""

    def __init__(
        self, volume: Volume, chance: Chance, user: str, colleagues: list[str], team: str
    ) -> None:
        self.volume, self.chance = volume, chance
        self.user, self.colleagues, self.team = user, colleagues, team
        self.day = date.fromisoformat(volume.epoch)
        self.companies = chance.shuffled(words("companies"))
        self.projects = chance.draw(words("projects"), 6)
        self.owner = ("root", "root")
        self.numbers = iter(chance.draw(range(10_000, 99_999), 200))

    # -- one node -------------------------------------------------------------------------------

    def time(self) -> str:
        """A time in the year before the world's date."""
        day = self.day - timedelta(days=self.chance.between(1, 300))
        hour, minute = self.chance.between(7, 19), self.chance.between(0, 59)
        return f"{day.isoformat()}T{hour:02d}:{minute:02d}:00"

    def put(self, path: str, kind: Kind, mode: int, text: str = "") -> None:
        """Make a node and the folders above it."""
        above = parent_of(path)
        if path != "/" and above not in self.volume.nodes:
            self.put(above, Kind.FOLDER, 0o755)
        owner, group = self.owner
        self.volume.nodes[path] = Node(kind, f"{mode:04o}", owner, group, self.time(), text)

    def folder(self, path: str, mode: int = 0o755) -> None:
        self.put(path, Kind.FOLDER, mode)

    def file(self, path: str, lines: list[str], mode: int = 0o644) -> None:
        self.put(path, Kind.FILE, mode, "".join(f"{line}\n" for line in lines))

    def link(self, path: str, target: str) -> None:
        self.put(path, Kind.LINK, 0o777, target)

    # -- parts of the tree ----------------------------------------------------------------------

    def system(self) -> None:
        """What belongs to root."""
        self.owner = ("root", "root")
        self.folder("/")
        self.file("/etc/motd", ["Welcome. Scratch files in /tmp are removed every night."])
        self.file("/etc/backup.conf", ["source=/home", "target=/srv/archive", "keep=30"], 0o640)
        self.file("/var/log/build.log", self.log_lines(40))
        self.file("/var/log/access.log", self.log_lines(10), 0o640)
        self.folder("/root", 0o700)
        self.file("/root/keys.txt", ["(nothing to see here)"], 0o600)
        self.folder("/tmp", 0o1777)
        for year in (2023, 2024):
            for quarter in (1, 2, 3, 4):
                lines = [f"Report {year} Q{quarter}", *self.figures()]
                self.file(f"/srv/archive/{year}/report-q{quarter}.txt", lines)
        self.link("/srv/latest", "archive/2024")

    def home(self) -> None:
        """The user's own files."""
        self.owner = (self.user, self.user)
        home = f"/home/{self.user}"
        self.folder(home, 0o750)
        self.file(f"{home}/.profile", ["umask 022", "export EDITOR=vi"])
        self.file(f"{home}/.config/editor.conf", ["tabs=4", "theme=light", "wrap=no"], 0o600)
        self.invoices(f"{home}/invoices")
        self.notes(f"{home}/notes")
        for project in self.projects[:3]:
            self.project(f"{home}/projects/{project}", project)
        self.link(f"{home}/current", f"projects/{self.projects[0]}")
        self.link(f"{home}/handbook.txt", "/srv/shared/handbook-2023.txt")
        for name in ("backup", "cleanup", "report"):
            lines = ["#!/bin/sh", f"# Runs the {name} of {home}.", f"echo {name} done"]
            self.file(f"{home}/scripts/{name}.sh", lines, 0o755 if name != "report" else 0o644)
        self.folder(f"{home}/empty")
        self.folder(f"{home}/downloads")
        for number in range(self.chance.between(3, 5)):
            self.file(f"{home}/downloads/page-{number + 1}.tmp", self.figures())
        self.file(f"{home}/downloads/bookings.csv", self.table(12))
        self.archive(f"{home}/old-letters.tar", "letters", 4)
        self.file(f"/tmp/{self.user}-scratch.txt", self.figures())

    def shared(self) -> None:
        """What the staff shares."""
        self.owner = ("root", "staff")
        self.folder("/srv/shared", 0o2775)
        self.folder("/srv/shared/minutes", 0o2775)
        self.folder("/srv/shared/incoming", 0o2775)
        suppliers = sorted(self.companies[:14])
        self.file("/srv/shared/suppliers.txt", suppliers, 0o664)
        dropped = self.chance.draw(suppliers, 3)
        old = [name for name in suppliers if name not in dropped] + self.companies[14:17]
        self.file("/srv/shared/suppliers-2024.txt", sorted(old), 0o664)
        self.file("/srv/shared/price-list.csv", self.prices(18), 0o664)
        self.file("/srv/shared/handbook.txt", self.handbook(), 0o644)
        names = [self.user, *self.colleagues]
        phones = [f"{name},{self.chance.between(200, 899)},{self.team}" for name in names]
        self.file("/srv/shared/phones.csv", ["name,extension,team", *phones], 0o664)
        for topic in self.chance.draw(TOPICS, 5):
            self.owner = (self.chance.pick(self.colleagues), "staff")
            lines = [f"Minutes: {topic}", *self.decisions(topic)]
            self.file(f"/srv/shared/minutes/{topic}.txt", lines, 0o664)
        for company in self.companies[20:24]:
            self.owner = (self.chance.pick(self.colleagues), "staff")
            slug = _slug(company)
            self.file(f"/srv/shared/incoming/offer-{slug}.txt", self.offer(company), 0o664)
        self.owner = ("root", self.team)
        self.folder(f"/srv/{self.team}", 0o2770)
        self.file(f"/srv/{self.team}/plan.txt", self.todo(6), 0o660)
        others = [group for group in EXTRA_GROUPS if group != self.team]
        self.owner = ("root", others[0])
        self.folder(f"/srv/{others[0]}", 0o770)
        self.file(f"/srv/{others[0]}/plan.txt", self.todo(5), 0o660)

    def colleague(self, name: str) -> None:
        """A colleague's files: some of them are private."""
        self.owner = (name, name)
        home = f"/home/{name}"
        self.folder(home, 0o755 if self.chance.often(0.7) else 0o700)
        self.file(f"{home}/public/calendar.txt", self.decisions("week"))
        self.file(f"{home}/public/todo.txt", self.todo(5))
        self.folder(f"{home}/private", 0o700)
        self.file(f"{home}/private/salary.txt", ["confidential"], 0o600)
        if self.chance.often(0.5):
            self.file(f"/tmp/{name}-upload.txt", self.figures())

    def invoices(self, folder: str) -> None:
        for number, company in enumerate(self.companies[:16]):
            day = self.day - timedelta(days=self.chance.between(5, 400))
            amount = self.chance.between(2_000, 400_000)
            invoice = f"INV-{next(self.numbers)}"
            lines = [
                f"Invoice: {invoice}",
                f"Supplier: {company}",
                f"Date: {day.isoformat()}",
                f"Amount: {amount / 100:.2f}",
                f"Status: {'open' if number % 4 == 0 else 'paid'}",
            ]
            self.file(f"{folder}/{day.year}/{invoice.lower()}.txt", lines)

    def notes(self, folder: str) -> None:
        self.file(f"{folder}/todo.txt", self.todo(9))
        for topic in self.chance.draw(TOPICS, 4):
            self.file(f"{folder}/{topic}.md", [f"# {topic.title()}", "", *self.decisions(topic)])
        self.file(f"{folder}/passwords.txt", ["ask the helpdesk"], 0o600)
        visitors = [self.chance.pick(self.companies[:6]) for _ in range(14)]
        self.file(f"{folder}/visitors.txt", visitors)

    def project(self, folder: str, name: str) -> None:
        tickets = [next(self.numbers) for _ in range(5)]
        self.file(f"{folder}/README.md", [f"# {name}", "", f"Owner: {self.user}", *self.todo(2)])
        port = self.chance.between(3000, 9999)
        config = [f"name={name}", f"port={port}", "host=localhost", "debug=true", "retries=3"]
        self.file(f"{folder}/config.ini", config)
        self.file(f"{folder}/config.ini.bak", [*config[:3], "debug=false", "retries=5"])
        for part, ticket in zip(self.chance.draw(PARTS, 4), tickets, strict=False):
            lines = [
                f"# The {part} of {name}.",
                f"def run_{part}(rows):",
                f"    # TODO: ticket {ticket}",
                "    return [row for row in rows if row]",
            ]
            self.file(f"{folder}/src/{part}.py", lines)
        self.file(f"{folder}/logs/run.log", self.log_lines(30))
        self.file(f"{folder}/logs/run.log.1", self.log_lines(25))
        self.file(f"{folder}/data/readings.csv", self.table(420))

    def archive(self, path: str, name: str, count: int) -> None:
        members = [Member(f"{name}/", Kind.FOLDER, "0755", self.time(), "")]
        for company in sorted(self.companies[30 : 30 + count], key=_slug):
            text = "".join(f"{line}\n" for line in self.offer(company))
            member = f"{name}/{_slug(company)}.txt"
            members.append(Member(member, Kind.FILE, "0644", self.time(), text))
        owner, group = self.owner
        self.volume.nodes[path] = Node(
            Kind.FILE, "0644", owner, group, self.time(), "", tuple(members)
        )

    # -- contents -------------------------------------------------------------------------------

    def log_lines(self, count: int) -> list[str]:
        day = self.day - timedelta(days=self.chance.between(2, 20))
        lines = []
        for number in range(count):
            level = self.chance.pick(("INFO", "INFO", "INFO", "WARN", "ERROR"))
            part = self.chance.pick(PARTS)
            seconds = number * 97 % 60
            time = f"{8 + number // 6:02d}:{number % 6 * 10:02d}:{seconds:02d}"
            took = self.chance.between(2, 900)
            lines.append(f"{day.isoformat()} {time} {level} {part}: took {took} ms")
        return lines

    def figures(self) -> list[str]:
        return [
            f"{month}: {self.chance.between(1_000, 99_999)}"
            for month in ("January", "February", "March")
        ]

    def table(self, count: int) -> list[str]:
        rows = ["id,item,amount"]
        for number in self.chance.draw(range(1_000, 10_000), count):
            item = self.chance.pick(("paper", "toner", "cable", "lamp", "chair", "desk", "screen"))
            rows.append(f"{number},{item},{self.chance.between(1, 999)}")
        return rows

    def prices(self, count: int) -> list[str]:
        amounts = self.chance.draw(range(199, 90_000), count)
        items = self.chance.draw(words("office_items"), count)
        pairs = zip(items, amounts, strict=True)
        return ["item,price", *(f"{item},{amount / 100:.2f}" for item, amount in pairs)]

    def decisions(self, topic: str) -> list[str]:
        people = self.chance.draw(self.colleagues, 3)
        day = self.day + timedelta(days=self.chance.between(3, 60))
        return [
            f"Present: {', '.join(person.title() for person in people)}",
            f"Next meeting: {day.isoformat()}",
            f"- {people[0].title()} prepares the {topic} figures",
            f"- {people[1].title()} talks to {self.chance.pick(self.companies[:14])}",
        ]

    def todo(self, count: int) -> list[str]:
        return [
            f"[{'x' if self.chance.often(0.3) else ' '}] "
            + self.chance.pick(TASKS).format(
                company=self.chance.pick(self.companies[:14]),
                person=self.chance.pick(self.colleagues).title(),
            )
            for _ in range(count)
        ]

    def offer(self, company: str) -> list[str]:
        return [
            f"Offer of {company}",
            f"Reference: OF-{next(self.numbers)}",
            f"Total: {self.chance.between(5_000, 900_000) / 100:.2f}",
            f"Valid until: {(self.day + timedelta(days=self.chance.between(5, 90))).isoformat()}",
        ]

    def handbook(self) -> list[str]:
        lines = ["Handbook", ""]
        for number, topic in enumerate(TOPICS, 1):
            lines += [
                f"{number}. {topic.title()}",
                f"   Ask {self.chance.pick(self.colleagues)}.",
                "",
            ]
        return lines


def _slug(company: str) -> str:
    letters = "".join(c if c.isascii() and c.isalnum() else " " for c in company.lower())
    return "-".join(letters.split())

"""A second bank for the tests: a list of signed entries, and the rules once more.

Nothing here comes from the server's code. A balance is never stored: it is the sum of the entries.
Money is a whole number of cents, rates are fractions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from fractions import Fraction
from math import ceil, floor
from typing import Any

from orch_env.servers import ServerSession


@dataclass
class Entry:
    account: str
    cents: int
    day: str
    party: str = ""
    reference: str = ""
    kind: str = ""


@dataclass
class Bank:
    """What the oracle knows: the world's records as they were, and entries that grow."""

    today: str
    accounts: dict[str, Any]
    payees: dict[str, dict[str, Any]]
    orders: dict[str, dict[str, Any]]
    holds: dict[str, dict[str, Any]]
    rates: dict[str, Fraction]
    frozen: dict[str, str]
    entries: list[Entry] = field(default_factory=list)

    @classmethod
    def of(cls, session: ServerSession) -> Bank:
        """The bank at the start of a session."""
        tables: dict[str, Any] = {table.key: table for table in session.server.tables}

        def plain(key: str) -> dict[str, dict[str, Any]]:
            records = dict(tables[key])
            return {k: {s: getattr(r, s) for s in r.__slots__} for k, r in records.items()}

        accounts = plain("accounts")
        bank = cls(
            session.clock.now.date().isoformat(),
            accounts,
            plain("payees"),
            plain("orders"),
            plain("holds"),
            {key[3:]: Fraction(r["per_euro"], 10**6) for key, r in plain("rates").items()},
            {key: str(a["freeze"]) for key, a in accounts.items()},
        )
        for m in plain("movements").values():
            more = (m["at"][:10], m["party"], m["reference"], str(m["kind"]))
            bank.entries.append(Entry(m["source"], -m["cents"], *more))
            bank.entries.append(Entry(m["target"], m["cents"], *more))
        return bank

    # -- sums --------------------------------------------------------------------------------

    def balance(self, account: str) -> int:
        return sum(e.cents for e in self.entries if e.account == account)

    def available(self, account: str) -> int:
        held = sum(h["cents"] for h in self.holds.values() if h["account"] == account)
        return self.balance(account) + int(self.accounts[account]["overdraft"]) - held

    def paid(self, account: str) -> int:
        """Cents paid to payees today."""
        return -sum(
            e.cents
            for e in self.entries
            if (e.account, e.day) == (account, self.today)
            and e.kind in ("payment", "order")
            and e.cents < 0
        )

    def both(self, source: str, target: str, cents: int, *more: str) -> None:
        self.entries.append(Entry(source, -cents, self.today, *more))
        self.entries.append(Entry(target, cents, self.today, *more))

    # -- what is refused, and what happens ---------------------------------------------------

    def cannot_give(self, account: str, cents: int) -> str | None:
        its = self.accounts[account]
        if self.frozen[account] != "no":
            return "account_frozen"
        if its["matures"] and self.today < its["matures"]:
            return "fixed_term"
        return "insufficient_funds" if cents > self.available(account) else None

    def cannot_route(self, account: str, payee: str) -> str | None:
        its, to = self.accounts[account], self.payees[payee]
        if not to["confirmed"]:
            return "payee_not_confirmed"
        if its["kind"] != "current":
            return "not_a_current_account"
        return "currency_mismatch" if its["currency"] != to["currency"] else None

    def abroad(self, payee: str) -> int:
        return 0 if self.payees[payee]["number"][:2] == "IE" else 250

    def cannot_pay(self, account: str, payee: str, cents: int) -> str | None:
        refused = self.cannot_route(account, payee)
        refused = refused or self.cannot_give(account, cents + self.abroad(payee))
        if refused is None and self.paid(account) + cents > self.accounts[account]["daily_limit"]:
            return "daily_limit"
        return refused

    def pay(self, account: str, payee: str, cents: int, reference: str, kind: str) -> None:
        currency, to = self.accounts[account]["currency"], self.payees[payee]
        target = to["account"] or f"clearing-{currency}"
        self.both(account, target, cents, to["name"], reference, kind)
        if self.abroad(payee):
            self.both(account, f"fees-{currency}", self.abroad(payee), "", "", "fee")

    def paid_already(self, account: str, payee: str, cents: int, reference: str) -> bool:
        entry = Entry(account, -cents, self.today, self.payees[payee]["name"], reference, "payment")
        return entry in self.entries

    def exchange(self, sell: str, buy: str, cents: int) -> tuple[int, int]:
        """Cents bought, and the fee in cents sold."""
        rate = Fraction(floor(self.rates[buy] / self.rates[sell] * 10**6), 10**6)
        return floor(cents * rate), ceil(cents * Fraction(5, 1000))

    def cannot_move(self, source: str, target: str, cents: int) -> str | None:
        if source == target:
            return "same_account"
        sell, buy = (self.accounts[a]["currency"] for a in (source, target))
        fee = 0
        if sell != buy:
            bought, fee = self.exchange(sell, buy, cents)
            if not bought:
                return "amount_too_small"
        matures = self.accounts[target]["matures"]
        if matures and self.today < matures:
            return "fixed_term"
        return self.cannot_give(source, cents + fee)

    def move(self, source: str, target: str, cents: int) -> None:
        sell, buy = (self.accounts[a]["currency"] for a in (source, target))
        if sell == buy:
            self.both(source, target, cents)
            return
        bought, fee = self.exchange(sell, buy, cents)
        self.both(source, f"exchange-{sell}", cents)
        self.both(f"exchange-{buy}", target, bought)
        self.both(source, f"fees-{sell}", fee, "", "", "fee")

    # -- days --------------------------------------------------------------------------------

    def live_until(self, day: str) -> None:
        """Begin every day up to this one."""
        while self.today < day:
            self.today = (date.fromisoformat(self.today) + timedelta(days=1)).isoformat()
            self.holds = {k: h for k, h in self.holds.items() if h["until"] >= self.today}
            if self.today[8:] == "01":
                for key, its in self.accounts.items():
                    cents = floor(Fraction(self.balance(key) * its["interest"], 12 * 10_000))
                    if its["interest"] and cents > 0:
                        source = f"interest-{its['currency']}"
                        self.both(source, key, cents, "", "", "interest")
            for _, order in sorted(self.orders.items()):
                if order["state"] == "active" and falls_on(order, self.today):
                    its = (order["source"], order["payee"], order["cents"])
                    if self.cannot_pay(*its) is None:
                        self.pay(*its, order["reference"], "order")

    def active(self, order: str) -> bool:
        """Whether an order was not cancelled and falls due after today."""
        its = self.orders[order]
        if its["state"] == "cancelled":
            return False
        last = its["first"] if its["every"] == "once" else its["until"] or "9999"
        day = date.fromisoformat(self.today)
        ahead = ((day + timedelta(days=n)).isoformat() for n in range(1, 400))
        return any(d <= last and falls_on(its, d) for d in ahead)


def falls_on(order: dict[str, Any], day: str) -> bool:
    """Whether an order falls due on a day: found by looking at the day, not by counting."""
    first, this = date.fromisoformat(order["first"]), date.fromisoformat(day)
    if this < first or (order["until"] and day > order["until"]):
        return False
    if order["every"] == "once":
        return this == first
    if order["every"] == "weekly":
        return this.weekday() == first.weekday()
    last_of_month = (this + timedelta(days=1)).day == 1
    return this.day == first.day or (last_of_month and this.day < first.day)

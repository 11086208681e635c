"""The bank's books and its rules: who may move what, and what each new day brings."""

from __future__ import annotations

import calendar
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta

from orch_env.servers import NotFound, Server, Table, ToolRefusal
from orch_env.servers.domains.banking.records import (
    BANK,
    COUNTRY,
    Account,
    AccountKind,
    Customer,
    Every,
    Freeze,
    Hold,
    Ledger,
    Movement,
    MovementKind,
    Order,
    OrderState,
    Payee,
    Rate,
    SignIn,
)
from orch_env.servers.framework.money import from_cents

LEDGER = "ledger"
"""Id of the only record of its table."""
FEE_ABROAD = 250
"""Cents, in the currency of the payment, for one to a number of another country."""
SPENDING = (MovementKind.PAYMENT, MovementKind.ORDER)
"""What counts against an account's daily limit."""


class Books(Server):
    """The tables of the bank, and what every part of it obeys."""

    epoch = "2025-06-10"

    customers: Table[Customer]
    sign_ins: Table[SignIn]
    accounts: Table[Account]
    movements: Table[Movement]
    payees: Table[Payee]
    orders: Table[Order]
    holds: Table[Hold]
    rates: Table[Rate]
    ledgers: Table[Ledger]

    # -- who asks, and for what ------------------------------------------------------------

    def customer_of(self, session: str) -> str:
        """The id of the customer who is signed in with this session."""
        sign_in = self.sign_ins.get(session)
        if sign_in is None:
            raise NotFound(f"No session {session}; sign_in gives one.", reason="unknown_session")
        if self.minute > sign_in.until:
            raise ToolRefusal(
                f"Session {session} ended at {sign_in.until}; sign in again.",
                reason="session_expired",
            )
        return sign_in.customer

    def account_of(self, customer: str, account: str) -> Account:
        """An account of this customer; others' accounts do not exist for them."""
        found = self.accounts.get(account)
        if found is None or found.customer != customer:
            raise NotFound(
                f"You have no account {account}; list_accounts gives yours.",
                reason="unknown_account",
            )
        return found

    def payee_of(self, customer: str, payee: str) -> Payee:
        """A payee of this customer."""
        found = self.payees.get(payee)
        if found is None or found.customer != customer:
            raise NotFound(
                f"You have no payee {payee}; find_payee gives yours.", reason="unknown_payee"
            )
        return found

    @property
    def minute(self) -> str:
        """The session's time as ``2025-06-10T09:00``."""
        return self.now.isoformat(timespec="minutes")

    # -- money -----------------------------------------------------------------------------

    def available(self, account: Account) -> int:
        """Cents that the account can give now: balance and overdraft, less what is held."""
        held = sum(hold.cents for hold in self.holds.values() if hold.account == account.id)
        return account.balance + account.overdraft - held

    def sent_on(self, account: str, day: str) -> list[Movement]:
        """What left the account on a day."""
        return [m for m in self.movements.values() if m.source == account and m.at.startswith(day)]

    def paid_on(self, account: str, day: str) -> int:
        """Cents that the account paid to payees on a day."""
        return sum(m.cents for m in self.sent_on(account, day) if m.kind in SPENDING)

    def post(
        self,
        source: str,
        target: str,
        cents: int,
        kind: MovementKind,
        *,
        at: str,
        party: str = BANK,
        reference: str = "",
    ) -> str:
        """Move cents from one account to another; nothing else changes a balance."""
        key = self.new_id(
            "MV-", source, target, str(cents), kind, reference, taken=self.movements, digits=8
        )
        self.movements[key] = Movement(key, source, target, cents, kind, party, reference, at)
        for account, change in ((source, -cents), (target, cents)):
            held = self.accounts[account]
            self.accounts[account] = replace(held, balance=held.balance + change)
        return key

    def check_gives(self, account: Account, cents: int, day: str) -> None:
        """Refuse if the account cannot give this much on a day."""
        if account.freeze is not Freeze.NO:
            raise ToolRefusal(
                f"Account {account.id} is frozen {account.freeze}: it sends nothing. "
                "Use another account, or set_freeze if you froze it yourself.",
                reason="account_frozen",
            )
        self.check_term(account, day)
        available = self.available(account)
        if cents > available:
            raise ToolRefusal(
                f"Account {account.id} has {from_cents(available)} {account.currency} available "
                f"and needs {from_cents(cents)}. Lower the amount or move money to it first.",
                reason="insufficient_funds",
                available=from_cents(available),
                needed=from_cents(cents),
            )

    def check_term(self, account: Account, day: str) -> None:
        """Refuse if the account is fixed and its term has not ended."""
        if account.matures is not None and day < account.matures:
            raise ToolRefusal(
                f"Account {account.id} is fixed: no money moves before {account.matures}. "
                "Use another account.",
                reason="fixed_term",
                matures=account.matures,
            )

    def check_route(self, source: Account, payee: Payee) -> None:
        """Refuse if this account can never pay this payee as things are."""
        if not payee.confirmed:
            raise ToolRefusal(
                f"Payee {payee.id} is not confirmed; call confirm_payee with the code first.",
                reason="payee_not_confirmed",
            )
        if source.kind is not AccountKind.CURRENT:
            raise ToolRefusal(
                f"Account {source.id} is a {source.kind} account and pays no one; "
                "pay from a current account, or move the money to one first.",
                reason="not_a_current_account",
            )
        if source.currency != payee.currency:
            raise ToolRefusal(
                f"Payee {payee.id} takes {payee.currency} and account {source.id} holds "
                f"{source.currency}; pay from an account in {payee.currency}.",
                reason="currency_mismatch",
                currency=payee.currency,
            )

    def pay(
        self,
        source: Account,
        payee: Payee,
        cents: int,
        kind: MovementKind,
        *,
        at: str,
        reference: str,
    ) -> tuple[str, int]:
        """Pay a payee, and the fee if the number is of another country.

        Returns:
            The movement's id and the fee in cents.
        """
        day = at[:10]
        self.check_route(source, payee)
        fee = 0 if payee.number.startswith(COUNTRY) else FEE_ABROAD
        self.check_gives(source, cents + fee, day)
        left = source.daily_limit - self.paid_on(source.id, day)
        if cents > left:
            raise ToolRefusal(
                f"Account {source.id} may pay {from_cents(left)} more today. "
                "Pay less, pay from another account, or schedule the payment for another day.",
                reason="daily_limit",
                left=from_cents(left),
            )
        target = payee.account or own_account("clearing", source.currency)
        movement = self.post(
            source.id, target, cents, kind, at=at, party=payee.name, reference=reference
        )
        if fee:
            fees = own_account("fees", source.currency)
            self.post(source.id, fees, fee, MovementKind.FEE, at=at, reference="payment abroad")
        return movement, fee

    # -- what time does --------------------------------------------------------------------

    def settle(self) -> None:
        """Bring the books up to today, one day after the other."""
        today = self.today
        if self.settled < today:
            self.settle_through(today)

    @property
    def settled(self) -> str:
        """The day up to which everything that fell due is in the books."""
        return self.ledgers[LEDGER].day

    def settle_through(self, last: str) -> None:
        """Begin each day from the one after :attr:`settled` to the last one."""
        day = self.settled
        while day < last:
            day = (date.fromisoformat(day) + timedelta(days=1)).isoformat()
            self._begin(day)
        self.ledgers[LEDGER] = Ledger(LEDGER, day)

    def _begin(self, day: str) -> None:
        """Holds end, then savings bear interest on the first of a month, then orders pay."""
        for key in [h.id for h in self.holds.values() if h.until < day]:
            del self.holds[key]
        at = f"{day}T00:00"
        if day.endswith("-01"):
            for account in list(self.accounts.values()):
                cents = account.balance * account.interest // (12 * 10_000)
                if cents > 0:
                    source = own_account("interest", account.currency)
                    self.post(source, account.id, cents, MovementKind.INTEREST, at=at)
        due = [o for o in self.orders.values() if o.state is OrderState.ACTIVE and o.due == day]
        for order in sorted(due, key=lambda o: o.id):
            self._run(order, at)

    def _run(self, order: Order, at: str) -> None:
        source, payee = self.accounts[order.source], self.payees[order.payee]
        missed = order.missed
        try:
            self.pay(
                source, payee, order.cents, MovementKind.ORDER, at=at, reference=order.reference
            )
        except ToolRefusal:
            missed += 1
        count = order.count + 1
        due = due_day(order.first, order.every, count)
        over = due is None or (order.until is not None and due > order.until)
        self.orders[order.id] = replace(
            order,
            count=count,
            missed=missed,
            due=order.due if over or due is None else due,
            state=OrderState.ENDED if over else OrderState.ACTIVE,
        )

    # -- laws ------------------------------------------------------------------------------

    def invariants(self) -> Iterator[str]:
        """Balances are sums of entries, no money appears, and no limit is broken."""
        entries: Counter[str] = Counter()
        for m in self.movements.values():
            entries[m.source] -= m.cents
            entries[m.target] += m.cents
            if m.cents <= 0:
                yield f"movement {m.id} moves {m.cents} cents"
            if self.accounts[m.source].currency != self.accounts[m.target].currency:
                yield f"movement {m.id} mixes currencies"
        totals: Counter[str] = Counter()
        for account in self.accounts.values():
            totals[account.currency] += account.balance
            if account.balance != entries[account.id]:
                yield f"account {account.id} has {account.balance}, entries {entries[account.id]}"
            if account.kind is not AccountKind.BANK and self.available(account) < 0:
                yield f"account {account.id} is {self.available(account)} below its limit"
            if self.paid_on(account.id, self.today) > account.daily_limit:
                yield f"account {account.id} paid more than its daily limit"
        for currency, total in totals.items():
            if total:
                yield f"the accounts in {currency} sum to {total}"
        for order in self.orders.values():
            if order.state is OrderState.ACTIVE and order.due <= self.settled:
                yield f"order {order.id} was due on {order.due}"
        for hold in self.holds.values():
            if hold.until < self.settled:
                yield f"hold {hold.id} ended on {hold.until}"


def own_account(purpose: str, currency: str) -> str:
    """Id of the bank's own account: ``clearing``, ``fees``, ``interest`` or ``exchange``."""
    return f"{purpose}-{currency}"


def due_day(first: str, every: str, count: int) -> str | None:
    """The day on which an order falls due after ``count`` times; ``None`` if it never does again.

    A monthly order keeps its day of the month and falls on the last one of shorter months.
    """
    if count == 0:
        return first
    start = date.fromisoformat(first)
    if every == Every.WEEKLY:
        return (start + timedelta(weeks=count)).isoformat()
    if every == Every.MONTHLY:
        years, month = divmod(start.month - 1 + count, 12)
        year = start.year + years
        day = min(start.day, calendar.monthrange(year, month + 1)[1])
        return date(year, month + 1, day).isoformat()
    return None

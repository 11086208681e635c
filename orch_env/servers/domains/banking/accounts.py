"""Signing in, and a customer's accounts: what they hold, what moved, what is set aside."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Literal

from orch_env.servers import InvalidArguments, NotFound, Pattern, Range, ToolRefusal, read, write
from orch_env.servers.domains.banking.books import Books
from orch_env.servers.domains.banking.records import (
    Account,
    AccountId,
    Amount,
    Currency,
    Date,
    Freeze,
    Hold,
    HoldId,
    Movement,
    MovementKind,
    SessionId,
    SignIn,
    Text,
)
from orch_env.servers.framework.money import from_cents, to_cents
from orch_env.types.json import JsonObject

SESSION_MINUTES = 15
LONGEST_HOLD_DAYS = 90


class AccountTools(Books):
    """Signing in, and what one's accounts hold."""

    @write
    def sign_in(self, name: Text, phrase: Text) -> JsonObject:
        """Sign a customer in for 15 minutes; signing in again starts them anew.

        Args:
            name: The customer's full name.
            phrase: The customer's access phrase.
        """
        for customer in self.customers.values():
            if (customer.name, customer.phrase) == (name, phrase):
                break
        else:
            raise ToolRefusal(
                "No customer has this name and access phrase; give both as the customer did.",
                reason="sign_in_failed",
            )
        for old in [s.id for s in self.sign_ins.values() if s.customer == customer.id]:
            del self.sign_ins[old]
        until = (self.now + timedelta(minutes=SESSION_MINUTES)).isoformat(timespec="minutes")
        session = self.new_id("SE-", customer.id, taken=self.sign_ins, digits=10)
        self.sign_ins[session] = SignIn(session, customer.id, until)
        return {"session": session, "until": until}

    @read
    def list_accounts(self, session: SessionId, currency: Currency | None = None) -> JsonObject:
        """List the customer's accounts with their balances.

        Args:
            session: The session; sign_in gives it.
            currency: Only accounts in this currency.
        """
        customer = self.customer_of(session)
        return {
            "accounts": [
                {
                    "account": a.id,
                    "name": a.name,
                    "kind": a.kind,
                    "currency": a.currency,
                    "balance": from_cents(a.balance),
                }
                for a in self.accounts.values()
                if a.customer == customer and currency in (None, a.currency)
            ]
        }

    @read
    def find_account(self, session: SessionId, name: Text) -> JsonObject:
        """Find one of the customer's accounts by its name: balance, limits and holds.

        Args:
            session: The session; sign_in gives it.
            name: The account's name, such as Everyday.
        """
        customer = self.customer_of(session)
        for account in self.accounts.values():
            if account.customer == customer and account.name.lower() == name.lower():
                return self._details(account)
        raise NotFound(
            f"You have no account called {name}; list_accounts gives yours.",
            reason="unknown_account",
        )

    def _details(self, account: Account) -> JsonObject:
        return {
            "account": account.id,
            "name": account.name,
            "number": account.number,
            "kind": account.kind,
            "currency": account.currency,
            "balance": from_cents(account.balance),
            "available": from_cents(self.available(account)),
            "overdraft": from_cents(account.overdraft),
            "daily_limit": from_cents(account.daily_limit),
            "frozen": account.freeze,
            "matures": account.matures,
            "holds": [
                {
                    "hold": hold.id,
                    "amount": from_cents(hold.cents),
                    "purpose": hold.purpose,
                    "until": hold.until,
                    "merchant": hold.merchant or None,
                }
                for hold in self.holds.values()
                if hold.account == account.id
            ],
        }

    @read
    def search_entries(
        self,
        session: SessionId,
        account: AccountId,
        party: Text | None = None,
        direction: Literal["in", "out"] | None = None,
        since: Date | None = None,
        until: Date | None = None,
        limit: Annotated[int, Range(1, 20)] = 2,
    ) -> JsonObject:
        """Search an account's entries, newest first.

        Args:
            session: The session; sign_in gives it.
            account: The account's id; find_account gives it.
            party: The other party's whole name, such as a shop, a payee or an own account.
            direction: Only money that came in or went out.
            since: The first day, such as 2025-05-01.
            until: The last day.
            limit: How many entries to give at most.
        """
        owner = self.account_of(self.customer_of(session), account)
        found = [
            m
            for m in self.movements.values()
            if (m.source == account if direction == "out" else m.target == account)
            or (direction is None and m.source == account)
        ]
        if since is not None:
            found = [m for m in found if m.at[:10] >= since]
        if until is not None:
            found = [m for m in found if m.at[:10] <= until]
        if party is not None:
            found = [m for m in found if self._party(m, owner).lower() == party.lower()]
        found.sort(key=lambda m: (m.at, m.id), reverse=True)
        return {"found": len(found), "entries": [self._entry(m, owner) for m in found[:limit]]}

    def _entry(self, movement: Movement, account: Account) -> JsonObject:
        return {
            "entry": movement.id,
            "at": movement.at,
            "direction": "out" if movement.source == account.id else "in",
            "amount": from_cents(movement.cents),
            "party": self._party(movement, account),
            "kind": movement.kind,
            "reference": movement.reference,
        }

    def _party(self, movement: Movement, account: Account) -> str:
        """Who is on the other side of an account's entry."""
        paid = movement.source == account.id
        other = self.accounts[movement.target if paid else movement.source]
        if not other.customer:
            return movement.party
        if other.customer == account.customer:
            return other.name
        return self.customers[other.customer].name

    @read
    def get_statement(
        self,
        session: SessionId,
        account: AccountId,
        month: Annotated[str, Pattern("20[0-9]{2}-(0[1-9]|1[0-2])")],
    ) -> JsonObject:
        """An account's statement of one month; of the current month, up to now.

        Args:
            session: The session; sign_in gives it.
            account: The account's id; find_account gives it.
            month: The month, such as 2025-05.
        """
        owner = self.account_of(self.customer_of(session), account)
        own = [m for m in self.movements.values() if account in (m.source, m.target)]
        first = min((m.at[:7] for m in own), default=self.today[:7])
        if not first <= month <= self.today[:7]:
            raise ToolRefusal(
                f"Account {account} has statements from {first} to {self.today[:7]}.",
                reason="no_statement",
                first=first,
                last=self.today[:7],
            )
        before = [m for m in own if m.at[:7] < month]
        within = [m for m in own if m.at[:7] == month]
        opening = sum(m.cents if m.target == account else -m.cents for m in before)
        money_in = sum(m.cents for m in within if m.target == account)
        money_out = sum(m.cents for m in within if m.source == account)
        return {
            "account": account,
            "month": month,
            "currency": owner.currency,
            "opening": from_cents(opening),
            "money_in": from_cents(money_in),
            "money_out": from_cents(money_out),
            "fees": from_cents(sum(m.cents for m in within if m.kind is MovementKind.FEE)),
            "interest": from_cents(sum(m.cents for m in within if m.kind is MovementKind.INTEREST)),
            "closing": from_cents(opening + money_in - money_out),
            "entries": len(within),
        }

    @write(idempotent=True)
    def set_freeze(self, session: SessionId, account: AccountId, frozen: bool) -> JsonObject:
        """Freeze an account, so that it sends nothing, or lift the customer's own freeze.

        Args:
            session: The session; sign_in gives it.
            account: The account's id; find_account gives it.
            frozen: true to freeze it, false to lift the freeze.
        """
        owner = self.account_of(self.customer_of(session), account)
        if owner.freeze is Freeze.BANK:
            raise ToolRefusal(
                f"The bank froze account {account}; only a branch can lift that.",
                reason="frozen_by_bank",
            )
        state = Freeze.CUSTOMER if frozen else Freeze.NO
        if owner.freeze is state:
            raise ToolRefusal(
                f"Account {account} is {'frozen' if frozen else 'not frozen'} already.",
                reason="nothing_to_change",
            )
        self.accounts[account] = replace(owner, freeze=state)
        return {"account": account, "frozen": state}

    @write
    def place_hold(
        self, session: SessionId, account: AccountId, amount: Amount, until: Date, purpose: Text
    ) -> JsonObject:
        """Set money of an account aside, so that no payment takes it.

        Args:
            session: The session; sign_in gives it.
            account: The account's id; find_account gives it.
            amount: How much, in the account's currency.
            until: The last day of the hold, at most 90 days ahead.
            purpose: What the money is for, in a few words.
        """
        owner = self.account_of(self.customer_of(session), account)
        last = (self.now + timedelta(days=LONGEST_HOLD_DAYS)).date().isoformat()
        if not self.today <= until <= last:
            raise InvalidArguments(
                f"A hold ends between {self.today} and {last}, not on {until}.",
                reason="bad_date",
            )
        cents = to_cents(amount)
        self.check_gives(owner, cents, self.today)
        hold = self.new_id("HD-", account, str(cents), purpose, until, taken=self.holds, digits=6)
        self.holds[hold] = Hold(hold, account, cents, purpose, until)
        return {"hold": hold, "available": from_cents(self.available(owner))}

    @write(destructive=True, idempotent=True)
    def release_hold(self, session: SessionId, hold: HoldId) -> JsonObject:
        """Release a hold that the customer placed.

        Args:
            session: The session; sign_in gives it.
            hold: The hold's id; find_account gives it.
        """
        customer = self.customer_of(session)
        placed = self.holds.get(hold)
        if placed is None or self.accounts[placed.account].customer != customer:
            raise NotFound(
                f"You have no hold {hold}; find_account gives an account's holds.",
                reason="unknown_hold",
            )
        if placed.merchant:
            raise ToolRefusal(
                f"{placed.merchant} placed hold {hold}; it ends after {placed.until}, and only "
                "the merchant can release it before.",
                reason="merchant_hold",
                until=placed.until,
            )
        del self.holds[hold]
        account = self.accounts[placed.account]
        return {"hold": hold, "available": from_cents(self.available(account))}

"""Moving money: between one's own accounts, between currencies, and to confirmed payees."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from orch_env.servers import InvalidArguments, NotFound, Pattern, ToolRefusal, read, write
from orch_env.servers.domains.banking.books import Books, own_account
from orch_env.servers.domains.banking.records import (
    AccountId,
    AccountKind,
    Amount,
    Currency,
    MovementKind,
    Number,
    Payee,
    PayeeId,
    Reference,
    SessionId,
    Text,
)
from orch_env.servers.framework.money import from_cents, to_cents
from orch_env.types.json import JsonObject

EXCHANGE_FEE = 50
"""Hundredths of a per cent of what is sold, rounded up to a whole cent."""
_MILLION = 1_000_000


class PaymentTools(Books):
    """Payments, and the payees that they go to."""

    @read
    def quote_exchange(self, sell: Currency, buy: Currency, amount: Amount) -> JsonObject:
        """What an amount buys in another currency, and the fee that comes on top of it.

        Args:
            sell: The currency to sell.
            buy: The currency to buy.
            amount: How much to sell.
        """
        cents = to_cents(amount)
        rate, bought, fee = self._exchange(sell, buy, cents)
        return {
            "sold": from_cents(cents),
            "bought": from_cents(bought),
            "fee": from_cents(fee),
            "rate": rate / _MILLION,
        }

    def _exchange(self, sell: str, buy: str, cents: int) -> tuple[int, int, int]:
        """The rate in millionths, what the cents buy, and the fee in what is sold."""
        if sell == buy:
            raise InvalidArguments(
                f"{sell} is on both sides; name two currencies.", reason="same_currency"
            )
        rate = self.rates[f"RT-{buy}"].per_euro * _MILLION // self.rates[f"RT-{sell}"].per_euro
        bought = cents * rate // _MILLION
        if bought == 0:
            raise InvalidArguments(
                f"{from_cents(cents)} {sell} buys nothing in {buy}; exchange more.",
                reason="amount_too_small",
            )
        return rate, bought, -(-cents * EXCHANGE_FEE // 10_000)

    @write
    def move_money(
        self, session: SessionId, source: AccountId, target: AccountId, amount: Amount
    ) -> JsonObject:
        """Move money between two accounts of the customer, with an exchange where they differ.

        Args:
            session: The session; sign_in gives it.
            source: The account that gives; find_account gives its id.
            target: The account that takes; find_account gives its id.
            amount: How much, in the currency of the source; an exchange costs 0.5 % on top.
        """
        customer = self.customer_of(session)
        giver, taker = self.account_of(customer, source), self.account_of(customer, target)
        if source == target:
            raise InvalidArguments(
                f"Account {source} is on both sides; name two accounts.", reason="same_account"
            )
        cents = to_cents(amount)
        received, fee = cents, 0
        sell, buy = giver.currency, taker.currency
        if sell != buy:
            _, received, fee = self._exchange(sell, buy, cents)
        self.check_term(taker, self.today)
        self.check_gives(giver, cents + fee, self.today)
        at = self.minute
        if sell == buy:
            movement = self.post(source, target, cents, MovementKind.MOVE, at=at)
        else:
            pool, other = own_account("exchange", sell), own_account("exchange", buy)
            movement = self.post(source, pool, cents, MovementKind.EXCHANGE, at=at)
            self.post(other, target, received, MovementKind.EXCHANGE, at=at)
            fees = own_account("fees", sell)
            self.post(source, fees, fee, MovementKind.FEE, at=at, reference="exchange")
        return {
            "entry": movement,
            "received": from_cents(received),
            "fee": from_cents(fee),
            "balance": from_cents(self.accounts[source].balance),
        }

    @read
    def find_payee(self, session: SessionId, name: Text) -> JsonObject:
        """Find one of the customer's payees by name.

        Args:
            session: The session; sign_in gives it.
            name: The payee's whole name.
        """
        customer = self.customer_of(session)
        for payee in self.payees.values():
            if payee.customer == customer and payee.name.lower() == name.lower():
                return {
                    "payee": payee.id,
                    "name": payee.name,
                    "number": payee.number,
                    "currency": payee.currency,
                    "confirmed": payee.confirmed,
                }
        raise NotFound(
            f"You have no payee called {name}; add_payee adds one.", reason="unknown_payee"
        )

    @write(idempotent=True)
    def add_payee(
        self, session: SessionId, name: Text, number: Number, currency: Currency
    ) -> JsonObject:
        """Add a payee, who can be paid once confirmed with the code that this gives.

        Args:
            session: The session; sign_in gives it.
            name: Who is to be paid, as the holder of the account is called.
            number: The payee's account number.
            currency: The currency of the payee's account.
        """
        customer = self.customer_of(session)
        if not has_check_digits(number):
            raise InvalidArguments(
                f"The check digits of {number} are wrong: a digit is mistyped. Ask for the number.",
                reason="bad_number",
            )
        for other in self.payees.values():
            if other.customer == customer and name.lower() == other.name.lower():
                raise ToolRefusal(
                    f"You have a payee called {other.name} already: {other.id}.",
                    reason="payee_exists",
                    payee=other.id,
                )
        account = self._holder(customer, name, number, currency)
        payee = self.new_id("PY-", customer, name, number, taken=self.payees, digits=6)
        code = f"{self.chance(payee, number).between(0, 999_999):06d}"
        self.payees[payee] = Payee(payee, customer, name, number, currency, account, code)
        return {"payee": payee, "code": code}

    def _holder(self, customer: str, name: str, number: str, currency: str) -> str:
        """The id of the account here that has this number, empty if it is another bank's."""
        for account in self.accounts.values():
            if account.number != number or account.kind is AccountKind.BANK:
                continue
            if account.customer == customer:
                raise ToolRefusal(
                    f"{number} is your own account {account.id}; use move_money.",
                    reason="own_account",
                    account=account.id,
                )
            if self.customers[account.customer].name.lower() != name.lower():
                raise ToolRefusal(
                    f"The holder of {number} is not called {name}. Ask for name and number.",
                    reason="name_mismatch",
                )
            if account.currency != currency:
                raise ToolRefusal(
                    f"{number} is an account in {account.currency}, not in {currency}.",
                    reason="currency_mismatch",
                    currency=account.currency,
                )
            return account.id
        return ""

    @write(idempotent=True)
    def confirm_payee(
        self, session: SessionId, payee: PayeeId, code: Annotated[str, Pattern("[0-9]{6}")]
    ) -> JsonObject:
        """Confirm a payee, so that they can be paid.

        Args:
            session: The session; sign_in gives it.
            payee: The payee's id; add_payee and find_payee give it.
            code: The six digits that add_payee gave, or that the customer got by post.
        """
        added = self.payee_of(self.customer_of(session), payee)
        if added.confirmed:
            raise ToolRefusal(
                f"Payee {payee} is confirmed already; pay_payee works.", reason="nothing_to_change"
            )
        if code != added.code:
            raise ToolRefusal(
                f"{code} is not the code of payee {payee}; use the one that add_payee gave or "
                "that came by post.",
                reason="wrong_code",
            )
        self.payees[payee] = replace(added, confirmed=True)
        return {"payee": payee, "confirmed": True}

    @write
    def pay_payee(
        self,
        session: SessionId,
        source: AccountId,
        payee: PayeeId,
        amount: Amount,
        reference: Reference = "",
    ) -> JsonObject:
        """Pay a confirmed payee at once; to a number of another country it costs 2.50 on top.

        Args:
            session: The session; sign_in gives it.
            source: The account that pays; find_account gives its id.
            payee: The payee's id; find_payee gives it.
            amount: How much, in the currency of the source.
            reference: What the payee reads on their statement.
        """
        customer = self.customer_of(session)
        giver, taker = self.account_of(customer, source), self.payee_of(customer, payee)
        cents = to_cents(amount)
        for m in self.sent_on(source, self.today):
            same = (m.party, m.cents, m.reference, m.kind)
            if same == (taker.name, cents, reference, MovementKind.PAYMENT):
                raise ToolRefusal(
                    f"This was paid today already: {m.id}. For a second payment give another "
                    "reference.",
                    reason="duplicate_payment",
                    entry=m.id,
                )
        movement, fee = self.pay(
            giver, taker, cents, MovementKind.PAYMENT, at=self.minute, reference=reference
        )
        return {
            "entry": movement,
            "fee": from_cents(fee),
            "balance": from_cents(self.accounts[source].balance),
        }


def has_check_digits(number: str) -> bool:
    """Whether the check digits of an account number are right (ISO 7064, mod 97-10)."""
    return _residue(number[4:] + number[:4]) == 1


def with_check_digits(country: str, rest: str) -> str:
    """An account number of a country, with check digits that are right."""
    return f"{country}{98 - _residue(rest + country + '00'):02d}{rest}"


def _residue(text: str) -> int:
    return int("".join(str(int(c, 36)) for c in text)) % 97

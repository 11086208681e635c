"""What the bank keeps: customers, accounts, movements of money, payees, orders and holds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from orch_env.servers import Format, Length, Pattern, Range, Stamp

BANK = "Merrow Bank"
COUNTRY = "IE"
"""Where the bank is: a payment to a number of another country costs a fee."""

SessionId = Annotated[str, Pattern("SE-[0-9]{10}")]
AccountId = Annotated[str, Pattern("AC-[0-9]{6}")]
PayeeId = Annotated[str, Pattern("PY-[0-9]{6}")]
OrderId = Annotated[str, Pattern("SO-[0-9]{6}")]
HoldId = Annotated[str, Pattern("HD-[0-9]{6}")]
Number = Annotated[str, Pattern("[A-Z]{2}[0-9]{2}[A-Z]{4}[0-9]{10}")]
Amount = Annotated[float, Range(0.01, 1_000_000)]
Date = Annotated[str, Format("date")]
Text = Annotated[str, Length(1, 60)]
Reference = Annotated[str, Length(0, 35)]
Currency = Literal["EUR", "GBP", "USD", "CHF"]

CURRENCIES: tuple[Currency, ...] = ("EUR", "GBP", "USD", "CHF")


class AccountKind(StrEnum):
    """What an account is for, which decides where its money may go."""

    CURRENT = "current"
    """Pays anyone."""
    SAVINGS = "savings"
    """Bears interest; its money only moves to other accounts of the customer."""
    FIXED = "fixed"
    """Neither takes nor gives money before its term ends."""
    BANK = "bank"
    """The bank's own: the other side of fees, interest, exchange and other banks' money."""


class Freeze(StrEnum):
    """Who stopped an account from sending money."""

    NO = "no"
    CUSTOMER = "by customer"
    BANK = "by bank"


class Every(StrEnum):
    """How often an order pays."""

    ONCE = "once"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


class OrderState(StrEnum):
    """Where an order stands; only an active one pays."""

    ACTIVE = "active"
    ENDED = "ended"
    CANCELLED = "cancelled"


class MovementKind(StrEnum):
    """Why money moved."""

    OPENING = "opening"
    INCOME = "income"
    CARD = "card"
    PAYMENT = "payment"
    ORDER = "order"
    MOVE = "move"
    EXCHANGE = "exchange"
    FEE = "fee"
    INTEREST = "interest"


@dataclass(frozen=True, slots=True)
class Customer:
    """A person with accounts here, and the phrase that signs them in."""

    id: str
    name: str
    phrase: str


@dataclass(frozen=True, slots=True)
class SignIn:
    """A customer's session; sensitive tools take its id up to and including ``until``."""

    id: str
    customer: str
    until: Stamp


@dataclass(frozen=True, slots=True)
class Account:
    """An account. Money is in cents; ``overdraft`` is how far the balance may be below zero.

    ``customer`` is empty for the bank's own accounts. ``interest`` is the yearly rate in
    hundredths of a per cent. ``matures`` is the first day on which a fixed account is free.
    """

    id: str
    customer: str
    name: str
    number: str
    kind: AccountKind
    currency: str
    balance: int = 0
    overdraft: int = 0
    daily_limit: int = 0
    interest: int = 0
    matures: str | None = None
    freeze: Freeze = Freeze.NO


@dataclass(frozen=True, slots=True)
class Movement:
    """Two entries that sum to zero: ``cents`` leave ``source`` and enter ``target``.

    ``party`` is who is behind the bank's side of it, such as a shop.
    """

    id: str
    source: str
    target: str
    cents: int
    kind: MovementKind
    party: str
    reference: str
    at: Stamp


@dataclass(frozen=True, slots=True)
class Payee:
    """Whom a customer may pay, once confirmed; ``account`` is empty for one at another bank."""

    id: str
    customer: str
    name: str
    number: str
    currency: str
    account: str
    code: str
    confirmed: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """A payment that falls due on ``due``, and again until its last day.

    ``count`` is how many times it has fallen due, and ``missed`` on how many of these it could not
    pay.
    """

    id: str
    customer: str
    source: str
    payee: str
    cents: int
    reference: str
    every: Every
    first: str
    due: str
    until: str | None = None
    count: int = 0
    missed: int = 0
    state: OrderState = OrderState.ACTIVE


@dataclass(frozen=True, slots=True)
class Hold:
    """Money that is set aside through the day ``until``; ``merchant`` is empty for one's own."""

    id: str
    account: str
    cents: int
    purpose: str
    until: str
    merchant: str = ""


@dataclass(frozen=True, slots=True)
class Rate:
    """How many millionths of a currency one euro buys, the same all the time."""

    id: str
    per_euro: int


@dataclass(frozen=True, slots=True)
class Ledger:
    """The day up to which everything that fell due is in the books."""

    id: str
    day: Stamp

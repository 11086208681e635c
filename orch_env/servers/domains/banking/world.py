"""A world of the bank: fourteen customers, and ten weeks of what they earned and paid.

The past is made by the bank's own rules: each day begins as it does in a session, so orders pay and
savings bear interest by the same code.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import date, timedelta

from orch_env.servers import Chance
from orch_env.servers.domains.banking.books import LEDGER, Books, own_account
from orch_env.servers.domains.banking.payments import with_check_digits
from orch_env.servers.domains.banking.records import (
    COUNTRY,
    CURRENCIES,
    Account,
    AccountKind,
    Customer,
    Every,
    Freeze,
    Hold,
    Ledger,
    MovementKind,
    Order,
    Payee,
    Rate,
    SignIn,
)
from orch_env.servers.framework.chance import words

NUM_CUSTOMERS = 14
HISTORY_DAYS = 71
PER_EURO = {"EUR": 1_000_000, "GBP": 852_000, "USD": 1_118_000, "CHF": 947_000}
"""Millionths; a world's own rates are up to three per cent off."""
ABROAD = {"GBP": "GB", "USD": "US", "CHF": "CH"}
ACCOUNT_NAMES = {"GBP": "Sterling", "USD": "Dollars", "CHF": "Francs"}
OTHER_BANKS = ("TARN", "GLEN", "FENL", "COVE")


@dataclass(frozen=True, slots=True)
class _Planned:
    """A movement of the past that is made on its day if the money is there."""

    source: str
    target: str
    cents: int
    kind: MovementKind
    party: str
    reference: str
    time: str


def fill(bank: Books, chance: Chance) -> None:
    """Fill the tables of a new world."""
    _World(bank, chance).make()


class _World:
    def __init__(self, bank: Books, chance: Chance) -> None:
        self.bank = bank
        self.chance = chance
        self.today = date.fromisoformat(bank.epoch)
        self.start = self.today - timedelta(days=HISTORY_DAYS)
        self.plans: dict[str, list[_Planned]] = defaultdict(list)
        firsts = chance.draw(words("first_names"), 3 * NUM_CUSTOMERS)
        lasts = chance.draw(words("surnames"), 3 * NUM_CUSTOMERS)
        self.persons = [f"{a} {b}" for a, b in zip(firsts, lasts, strict=True)]
        companies = chance.shuffled(words("companies"))
        self.employers, self.services, self.shops = companies[:8], companies[8:38], companies[38:]

    def make(self) -> None:
        bank, chance = self.bank, self.chance
        bank.ledgers[LEDGER] = Ledger(LEDGER, self.start.isoformat())
        for currency in CURRENCIES:
            off = chance.between(-300, 300) if currency != "EUR" else 0
            per_euro = PER_EURO[currency] * (10_000 + off) // 10_000
            bank.rates[f"RT-{currency}"] = Rate(f"RT-{currency}", per_euro)
            for purpose in ("clearing", "fees", "interest", "exchange"):
                key = own_account(purpose, currency)
                bank.accounts[key] = Account(key, "", purpose, "", AccountKind.BANK, currency)
        customers = [self._customer() for _ in range(NUM_CUSTOMERS)]
        for number, customer in enumerate(customers):
            self._open_accounts(number, customer)
        for number, customer in enumerate(customers):
            friend = customers[(number + 1) % NUM_CUSTOMERS]
            self._plan(number, customer, friend)
        for _ in range(HISTORY_DAYS):
            bank.settle_through((date.fromisoformat(bank.settled) + timedelta(days=1)).isoformat())
            self._live(bank.settled)
        for number, customer in enumerate(customers):
            self._close(number, customer)

    # -- customers and accounts ------------------------------------------------------------

    def _customer(self) -> Customer:
        key = self.chance.id("CU-", 6, self.bank.customers)
        phrase = " ".join(self.chance.draw(words("phrase_words"), 3))
        customer = Customer(key, self.persons.pop(), phrase)
        self.bank.customers[key] = customer
        return customer

    def _open_accounts(self, number: int, customer: Customer) -> None:
        chance = self.chance
        limit = 100_00 * chance.pick((15, 20, 30, 50))
        self._open(
            customer,
            "Everyday",
            AccountKind.CURRENT,
            "EUR",
            chance.between(150_00, 2_200_00),
            overdraft=chance.pick((0, 0, 250_00, 500_00)),
            daily_limit=limit,
        )
        if number % 2 == 0:
            opening = chance.between(300_00, 1_500_00)
            self._open(
                customer, "Household", AccountKind.CURRENT, "EUR", opening, daily_limit=500_00
            )
        if number % 4 != 3:
            name = chance.pick(("Rainy day", "Holiday fund", "House fund", "New car"))
            opening = chance.between(800_00, 20_000_00)
            rate = chance.between(100, 275)
            self._open(customer, name, AccountKind.SAVINGS, "EUR", opening, interest=rate)
        if number % 3 != 2:
            currency = chance.pick(CURRENCIES[1:])
            opening = chance.between(200_00, 3_000_00)
            name = ACCOUNT_NAMES[currency]
            self._open(customer, name, AccountKind.CURRENT, currency, opening, daily_limit=1_000_00)
        if number % 3 == 0:
            matures = self.today + timedelta(days=chance.between(20, 300))
            opening = 500_00 * chance.between(4, 40)
            self._open(
                customer,
                "Fixed deposit",
                AccountKind.FIXED,
                "EUR",
                opening,
                matures=matures.isoformat(),
            )

    def _open(
        self,
        customer: Customer,
        name: str,
        kind: AccountKind,
        currency: str,
        opening: int,
        *,
        overdraft: int = 0,
        daily_limit: int = 0,
        interest: int = 0,
        matures: str | None = None,
    ) -> None:
        key = self.chance.id("AC-", 6, self.bank.accounts)
        number = self._number(COUNTRY, "MRRW")
        self.bank.accounts[key] = Account(
            key,
            customer.id,
            name,
            number,
            kind,
            currency,
            overdraft=overdraft,
            daily_limit=daily_limit,
            interest=interest,
            matures=matures,
        )
        clearing = own_account("clearing", currency)
        at = f"{self.start.isoformat()}T08:00"
        self.bank.post(
            clearing, key, opening, MovementKind.OPENING, at=at, reference="brought forward"
        )

    def _number(self, country: str, bank: str) -> str:
        return with_check_digits(country, f"{bank}{self.chance.between(0, 10**10 - 1):010d}")

    def _accounts(self, customer: Customer) -> dict[str, Account]:
        own = [a for a in self.bank.accounts.values() if a.customer == customer.id]
        return {account.name: account for account in own}

    # -- what they planned -----------------------------------------------------------------

    def _plan(self, number: int, customer: Customer, friend: Customer) -> None:
        """A customer's payees, orders and planned movements."""
        chance = self.chance
        accounts = self._accounts(customer)
        everyday = accounts["Everyday"]
        landlord = self._payee(customer, self.persons.pop(), COUNTRY, "EUR")
        supplier, other, _ = (
            self._payee(customer, name, COUNTRY, "EUR", confirmed=place < 2)
            for place, name in enumerate(chance.draw(self.services, 3))
        )
        known = self._payee(
            customer, friend.name, COUNTRY, "EUR", account=self._accounts(friend)["Everyday"]
        )
        rent = 10_00 * chance.between(45, 110)
        self._order(everyday, landlord, rent, "Rent", chance.between(1, 5))
        self._order(everyday, supplier, chance.between(35_00, 140_00), "Monthly bill", 12)
        employer, wage = chance.pick(self.employers), chance.between(1_400_00, 3_200_00)
        for month in ("04", "05"):
            self._planned(
                f"2025-{month}-{chance.between(24, 28)}",
                ("", everyday),
                wage,
                MovementKind.INCOME,
                employer,
                "Salary",
            )
        for payee, reference in ((other, f"Invoice {chance.between(1000, 9999)}"), (known, "")):
            cents = 50 * chance.between(20, 300)
            self._paid(self._day(), everyday, payee, cents, reference)
        savings = next((a for a in accounts.values() if a.kind is AccountKind.SAVINGS), None)
        for taker in (savings, accounts.get("Household")):
            if taker is not None:
                self._planned(
                    self._day(),
                    (everyday, taker),
                    10_00 * chance.between(3, 20),
                    MovementKind.MOVE,
                    "",
                    "",
                )
        for account in accounts.values():
            if account.kind is AccountKind.CURRENT:
                count = 8 if account is everyday else 3
                for shop in chance.draw(self.shops, count):
                    cents = chance.between(4_50, 95_00)
                    self._planned(
                        self._day(), (account, ""), cents, MovementKind.CARD, shop, "Card"
                    )
        foreign = next((a for a in accounts.values() if a.currency != "EUR"), None)
        currency = "GBP" if foreign is None else foreign.currency
        abroad = self._payee(customer, self.persons.pop(), ABROAD[currency], currency)
        if foreign is not None:
            self._paid(self._day(), foreign, abroad, 5_00 * chance.between(4, 20), "With thanks")

    def _payee(
        self,
        customer: Customer,
        name: str,
        country: str,
        currency: str,
        *,
        account: Account | None = None,
        confirmed: bool = True,
    ) -> Payee:
        key = self.chance.id("PY-", 6, self.bank.payees)
        number = self._number(country, self.chance.pick(OTHER_BANKS))
        code = f"{self.chance.between(0, 999_999):06d}"
        payee = Payee(key, customer.id, name, number, currency, "", code, confirmed)
        if account is not None:
            payee = replace(payee, number=account.number, account=account.id)
        self.bank.payees[key] = payee
        return payee

    def _order(self, source: Account, payee: Payee, cents: int, reference: str, day: int) -> None:
        key = self.chance.id("SO-", 6, self.bank.orders)
        first = f"2025-04-{day:02d}"
        self.bank.orders[key] = Order(
            key,
            source.customer,
            source.id,
            payee.id,
            cents,
            reference,
            Every.MONTHLY,
            first,
            first,
        )

    def _day(self) -> str:
        """A day of the past after the first week."""
        return (self.today - timedelta(days=self.chance.between(1, HISTORY_DAYS - 7))).isoformat()

    def _paid(self, day: str, source: Account, payee: Payee, cents: int, reference: str) -> None:
        target = self.bank.accounts[payee.account] if payee.account else ""
        self._planned(day, (source, target), cents, MovementKind.PAYMENT, payee.name, reference)

    def _planned(
        self,
        day: str,
        ends: tuple[Account | str, Account | str],
        cents: int,
        kind: MovementKind,
        party: str,
        reference: str,
    ) -> None:
        """Plan a movement; an end that is empty is the bank's clearing account."""
        currency = next(end.currency for end in ends if isinstance(end, Account))
        source, target = (
            end.id if isinstance(end, Account) else own_account("clearing", currency)
            for end in ends
        )
        time = f"{self.chance.between(8, 21):02d}:{self.chance.between(0, 59):02d}"
        self.plans[day].append(_Planned(source, target, cents, kind, party, reference, time))

    # -- what came of it -------------------------------------------------------------------

    def _live(self, day: str) -> None:
        """Make the day's planned movements whose money is there, in order of time."""
        for p in sorted(self.plans[day], key=lambda p: p.time):
            source = self.bank.accounts[p.source]
            if not source.customer or self.bank.available(source) >= p.cents:
                self.bank.post(
                    p.source,
                    p.target,
                    p.cents,
                    p.kind,
                    at=f"{day}T{p.time}",
                    party=p.party,
                    reference=p.reference,
                )

    def _close(self, number: int, customer: Customer) -> None:
        """What stands open this morning: holds, freezes, and a session of earlier today."""
        bank, chance = self.bank, self.chance
        accounts = self._accounts(customer)
        everyday = accounts["Everyday"]
        until = (self.today + timedelta(days=chance.between(3, 40))).isoformat()
        free = bank.available(everyday)
        if number % 3 != 2 and free > 20_00:
            merchant = chance.pick(self.shops) if number % 3 == 0 else ""
            purpose = "Deposit" if merchant else chance.pick(("Bicycle", "Wedding gift", "Repairs"))
            share = chance.between(10, 30) if merchant else chance.between(50, 80)
            cents = free * share // 100 // 5_00 * 5_00
            key = chance.id("HD-", 6, bank.holds)
            bank.holds[key] = Hold(key, everyday.id, cents, purpose, until, merchant)
        if number % 4 == 2:
            household = accounts["Household"]
            state = Freeze.BANK if number % 8 == 6 else Freeze.CUSTOMER
            bank.accounts[household.id] = replace(household, freeze=state)
        if number % 5 == 1:
            key = bank.new_id("SE-", customer.id, "earlier", taken=bank.sign_ins, digits=10)
            minute = chance.between(10, 50)
            at = f"{self.today.isoformat()}T08:{minute}"
            bank.sign_ins[key] = SignIn(key, customer.id, at)

"""Requests to the bank: what customers ask for, and how each refusal comes about."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta
from typing import Any, TypeAlias

from orch_env.servers import Chance
from orch_env.servers.domains.banking import Banking
from orch_env.servers.domains.banking.records import (
    Account,
    AccountKind,
    Customer,
    Freeze,
    Hold,
    MovementKind,
    Order,
    Payee,
)
from tools.server_tasks.chains import Call, Chain, call, chain, out, refusal, together

SESSION = out(0, "/session")
ACCOUNT = out(1, "/account")
Bank: TypeAlias = Banking


# -- what a customer has -----------------------------------------------------------------------


def customer_of(bank: Bank, chance: Chance) -> Customer:
    """Any customer."""
    return chance.pick(list(bank.customers.values()))


def sign_in(customer: Customer) -> Call:
    """The call with which each chain starts."""
    return call("sign_in", name=customer.name, phrase=customer.phrase)


def said_by(customer: Customer, chance: Chance, request: str) -> str:
    """The request with who asks and their access phrase."""
    return chance.pick(
        (
            f'I\'m {customer.name}, my access phrase is "{customer.phrase}". {request}',
            f'{request} My name is {customer.name} and my access phrase "{customer.phrase}".',
            f'This is {customer.name} (access phrase "{customer.phrase}"). {request}',
        )
    )


def accounts_of(bank: Bank, customer: Customer, kind: AccountKind | None = None) -> list[Account]:
    """A customer's accounts, of one kind if it is given."""
    own = [a for a in bank.accounts.values() if a.customer == customer.id]
    return [a for a in own if kind in (None, a.kind)]


def everyday_of(bank: Bank, customer: Customer) -> Account:
    """A customer's main account."""
    return next(a for a in accounts_of(bank, customer) if a.name == "Everyday")


def payees_of(bank: Bank, customer: Customer, *, confirmed: bool = True) -> list[Payee]:
    """A customer's payees."""
    own = [p for p in bank.payees.values() if p.customer == customer.id]
    return [p for p in own if p.confirmed == confirmed]


def payee_for(bank: Bank, account: Account, chance: Chance) -> Payee:
    """A confirmed payee whom this account can pay."""
    customer = bank.customers[account.customer]
    return chance.pick([p for p in payees_of(bank, customer) if p.currency == account.currency])


def order_of(bank: Bank, customer: Customer, chance: Chance) -> Order:
    """One of a customer's standing orders."""
    return chance.pick([o for o in bank.orders.values() if o.customer == customer.id])


def own_hold(bank: Bank, account: Account) -> Hold | None:
    """The account's hold, if it has a single one and the customer placed it."""
    holds = [h for h in bank.holds.values() if h.account == account.id]
    return holds[0] if len(holds) == 1 and not holds[0].merchant else None


def cents_up_to(bank: Bank, account: Account, chance: Chance) -> int:
    """An amount that the account can give and may pay today, fee included; 0 if it has little."""
    most = min(bank.available(account) - 5_00, account.daily_limit or 10**6, 900_00)
    return 0 if most < 10_00 else 50 * chance.between(20, most // 50)


def money(cents: int, currency: str = "EUR") -> str:
    """Cents as a person says them."""
    words = {"EUR": "euros", "GBP": "pounds", "USD": "dollars", "CHF": "francs"}
    return f"{cents / 100:.2f} {words[currency]}"


def later(bank: Bank, chance: Chance, first: int, last: int) -> str:
    """A day so many days after the start of the session."""
    days = timedelta(days=chance.between(first, last))
    return (date.fromisoformat(bank.epoch) + days).isoformat()


# -- looking ------------------------------------------------------------------------------------


@chain("what_is_available")
def what_is_available(bank: Bank, chance: Chance) -> Chain | None:
    """What one account can give."""
    customer = customer_of(bank, chance)
    account = chance.pick(accounts_of(bank, customer))
    request = chance.pick(
        (
            f"How much can I still spend from my account {account.name}?",
            f"What is available on {account.name} right now?",
        )
    )
    return Chain(
        said_by(customer, chance, request),
        sign_in(customer),
        call("find_account", session=SESSION, name=account.name),
        answer=out(1, "/available"),
    )


@chain("accounts_in_euros")
def accounts_in_euros(bank: Bank, chance: Chance) -> Chain | None:
    """An overview by currency."""
    customer = customer_of(bank, chance)
    request = chance.pick(
        (
            "Which of my accounts are in euros, and what is on them?",
            "Give me an overview of my euro accounts, please.",
        )
    )
    return Chain(
        said_by(customer, chance, request),
        sign_in(customer),
        call("list_accounts", session=SESSION, currency="EUR"),
        answer=out(1, "/accounts"),
    )


@chain("statement_of_month")
def statement_of_month(bank: Bank, chance: Chance) -> Chain | None:
    """A figure of an old statement."""
    customer = customer_of(bank, chance)
    account = chance.pick(accounts_of(bank, customer))
    month, name = chance.pick((("2025-04", "April 2025"), ("2025-05", "May 2025")))
    asked, path = chance.pick(
        (("How much money came in", "/money_in"), ("What was the closing balance", "/closing"))
    )
    return Chain(
        said_by(customer, chance, f"{asked} on {account.name} in {name}?"),
        sign_in(customer),
        call("find_account", session=SESSION, name=account.name),
        call("get_statement", session=SESSION, account=ACCOUNT, month=month),
        answer=out(2, path),
    )


@chain("last_card_payment")
def last_card_payment(bank: Bank, chance: Chance) -> Chain | None:
    """When a shop was last paid."""
    customer = customer_of(bank, chance)
    everyday = everyday_of(bank, customer)
    shops = [
        m.party
        for m in bank.movements.values()
        if m.source == everyday.id and m.kind is MovementKind.CARD
    ]
    shop = chance.pick(shops)
    request = chance.pick(
        (
            f"When did I last pay {shop} from Everyday?",
            f"On which day did money last go from Everyday to {shop}?",
        )
    )
    return Chain(
        said_by(customer, chance, request),
        sign_in(customer),
        call("find_account", session=SESSION, name="Everyday"),
        call("search_entries", session=SESSION, account=ACCOUNT, party=shop, limit=1),
        answer=out(2, "/entries/0/at"),
    )


@chain("worth_in_euros")
def worth_in_euros(bank: Bank, chance: Chance) -> Chain | None:
    """A balance in another currency."""
    customer = customer_of(bank, chance)
    foreign = [a for a in accounts_of(bank, customer) if a.currency != "EUR" and a.balance > 100]
    if not foreign:
        return None
    name = foreign[0].name
    return Chain(
        said_by(
            customer,
            chance,
            chance.pick(
                (
                    f"What would the whole balance of my account {name} buy in EUR?",
                    f"If I sold everything on {name}, how much would I get in EUR?",
                )
            ),
        ),
        sign_in(customer),
        call("find_account", session=SESSION, name=name),
        call("quote_exchange", sell=out(1, "/currency"), buy="EUR", amount=out(1, "/balance")),
        answer=out(2, "/bought"),
    )


# -- paying -------------------------------------------------------------------------------------


@chain("pay_payee")
def pay_payee(bank: Bank, chance: Chance) -> Chain | None:
    """A payment to a payee who is known."""
    customer = customer_of(bank, chance)
    paying = accounts_of(bank, customer, AccountKind.CURRENT)
    account = chance.pick([a for a in paying if a.name != "Household"])
    payee = payee_for(bank, account, chance)
    cents = cents_up_to(bank, account, chance)
    if not cents:
        return None
    amount = money(cents, account.currency)
    request = chance.pick(
        (
            f"Please pay {payee.name} {amount} from {account.name}.",
            f"Send {amount} to {payee.name}; take it from {account.name}.",
            f"I owe {payee.name} {amount}. Pay that from my account {account.name}.",
        )
    )
    return Chain(
        said_by(customer, chance, request),
        sign_in(customer),
        together(
            call("find_account", session=SESSION, name=account.name),
            call("find_payee", session=SESSION, name=payee.name),
        ),
        call(
            "pay_payee",
            session=SESSION,
            source=ACCOUNT,
            payee=out(2, "/payee"),
            amount=cents / 100,
        ),
    )


@chain("pay_the_same_again")
def pay_the_same_again(bank: Bank, chance: Chance) -> Chain | None:
    """A payment as high as an earlier one."""
    customer = customer_of(bank, chance)
    everyday = everyday_of(bank, customer)
    paid = [
        m
        for m in bank.movements.values()
        if m.source == everyday.id and m.kind is MovementKind.PAYMENT
    ]
    if not paid:
        return None
    last = chance.pick(paid)
    once = Counter(m.party for m in bank.movements.values() if m.source == everyday.id)
    if once[last.party] > 1 or last.cents + 3_00 > bank.available(everyday):
        return None
    request = chance.pick(
        (
            f"Pay {last.party} from Everyday the same amount as last time.",
            f"I got another bill from {last.party}, as high as the last one that I paid from "
            "Everyday. Please pay it from there.",
        )
    )
    return Chain(
        said_by(customer, chance, request),
        sign_in(customer),
        together(
            call("find_account", session=SESSION, name="Everyday"),
            call("find_payee", session=SESSION, name=last.party),
        ),
        call("search_entries", session=SESSION, account=ACCOUNT, party=last.party, limit=1),
        call(
            "pay_payee",
            session=SESSION,
            source=ACCOUNT,
            payee=out(2, "/payee"),
            amount=out(3, "/entries/0/amount"),
        ),
    )


@chain("new_payee")
def new_payee(bank: Bank, chance: Chance) -> Chain | None:
    """A payee added and confirmed."""
    customer = customer_of(bank, chance)
    other = customer_of(bank, chance)
    known = [p.name for p in bank.payees.values() if p.customer == customer.id]
    if other == customer or other.name in known:
        return None
    everyday = everyday_of(bank, other)
    request = chance.pick(
        (
            f"Add {other.name} with the number {everyday.number}, an account in EUR, to my payees "
            "and confirm them.",
            f"I want to be able to pay {other.name}: number {everyday.number}, in EUR. "
            "Set that up and confirm it.",
        )
    )
    return Chain(
        said_by(customer, chance, request),
        sign_in(customer),
        call("add_payee", session=SESSION, name=other.name, number=everyday.number, currency="EUR"),
        call("confirm_payee", session=SESSION, payee=out(1, "/payee"), code=out(1, "/code")),
    )


@chain("new_payee_and_pay")
def new_payee_and_pay(bank: Bank, chance: Chance) -> Chain | None:
    """A payment to someone who is no payee yet."""
    customer = customer_of(bank, chance)
    other = customer_of(bank, chance)
    known = [p.name for p in bank.payees.values() if p.customer == customer.id]
    cents = cents_up_to(bank, everyday_of(bank, customer), chance)
    if other == customer or other.name in known or not cents:
        return None
    number = everyday_of(bank, other).number
    request = chance.pick(
        (
            f"Pay {other.name} {money(cents)} from Everyday. They are new: the number is "
            f"{number}, in EUR.",
            f"{other.name} is no payee of mine yet (account {number}, EUR). Set that up, and send "
            f"{money(cents)} from Everyday.",
        )
    )
    return Chain(
        said_by(customer, chance, request),
        sign_in(customer),
        together(
            call("find_account", session=SESSION, name="Everyday"),
            call("add_payee", session=SESSION, name=other.name, number=number, currency="EUR"),
        ),
        call("confirm_payee", session=SESSION, payee=out(2, "/payee"), code=out(2, "/code")),
        call(
            "pay_payee",
            after=(3,),
            session=SESSION,
            source=ACCOUNT,
            payee=out(2, "/payee"),
            amount=cents / 100,
        ),
    )


@chain("confirm_by_letter")
def confirm_by_letter(bank: Bank, chance: Chance) -> Chain | None:
    """A payee whose code came by post."""
    customer = customer_of(bank, chance)
    payee = chance.pick(payees_of(bank, customer, confirmed=False))
    request = chance.pick(
        (
            f"The letter with the code for {payee.name} came: {payee.code}. Please confirm them.",
            f"Confirm my payee {payee.name}; the code that I got by post is {payee.code}.",
        )
    )
    return Chain(
        said_by(customer, chance, request),
        sign_in(customer),
        call("find_payee", session=SESSION, name=payee.name),
        call("confirm_payee", session=SESSION, payee=out(1, "/payee"), code=payee.code),
    )


@chain("move_between_accounts")
def move_between_accounts(bank: Bank, chance: Chance) -> Chain | None:
    """A move between one's own accounts, with an exchange where they differ."""
    customer = customer_of(bank, chance)
    able = [a for a in accounts_of(bank, customer) if a.kind is not AccountKind.FIXED]
    if len(able) < 2:
        return None
    source, target = chance.draw(able, 2)
    cents = cents_up_to(bank, source, chance)
    if not cents or source.freeze is not Freeze.NO:
        return None
    amount = money(cents, source.currency)
    request = chance.pick(
        (
            f"Move {amount} from {source.name} to {target.name}.",
            f"Put {amount} from my account {source.name} on my account {target.name}.",
        )
    )
    return Chain(
        said_by(customer, chance, request),
        sign_in(customer),
        together(
            call("find_account", session=SESSION, name=source.name),
            call("find_account", session=SESSION, name=target.name),
        ),
        call(
            "move_money",
            session=SESSION,
            source=ACCOUNT,
            target=out(2, "/account"),
            amount=cents / 100,
        ),
    )


# -- later --------------------------------------------------------------------------------------


@chain("schedule_payment")
def schedule_payment(bank: Bank, chance: Chance) -> Chain | None:
    """A payment on a later day, or again and again."""
    customer = customer_of(bank, chance)
    payee = payee_for(bank, everyday_of(bank, customer), chance)
    cents = 50 * chance.between(20, 1500)
    first = later(bank, chance, 1, 60)
    every, words = chance.pick(
        (("once", "once, on"), ("weekly", "every week from"), ("monthly", "every month from"))
    )
    request = f"Pay {payee.name} {money(cents)} from Everyday {words} {first}"
    arguments: dict[str, Any] = {"first": first, "every": every}
    if every != "once":
        arguments["until"] = later(bank, chance, 100, 300)
        request += f" until {arguments['until']}"
    return Chain(
        said_by(customer, chance, f"{request}."),
        sign_in(customer),
        together(
            call("find_account", session=SESSION, name="Everyday"),
            call("find_payee", session=SESSION, name=payee.name),
        ),
        call(
            "schedule_payment",
            session=SESSION,
            source=ACCOUNT,
            payee=out(2, "/payee"),
            amount=cents / 100,
            **arguments,
        ),
    )


@chain("cancel_order")
def cancel_order(bank: Bank, chance: Chance) -> Chain | None:
    """A standing order that ends."""
    customer = customer_of(bank, chance)
    payee = bank.payees[order_of(bank, customer, chance).payee]
    request = chance.pick(
        (
            f"Cancel my standing order to {payee.name}.",
            f"I no longer want to pay {payee.name} every month. Please stop that order.",
        )
    )
    return Chain(
        said_by(customer, chance, request),
        sign_in(customer),
        call("find_payee", session=SESSION, name=payee.name),
        call("find_orders", session=SESSION, payee=out(1, "/payee")),
        call("cancel_order", session=SESSION, order=out(2, "/orders/0/order")),
    )


@chain("change_order")
def change_order(bank: Bank, chance: Chance) -> Chain | None:
    """A standing order replaced by a higher one."""
    customer = customer_of(bank, chance)
    order = order_of(bank, customer, chance)
    payee = bank.payees[order.payee]
    cents = order.cents + 5_00 * chance.between(1, 6)
    request = chance.pick(
        (
            f"My monthly order to {payee.name} goes up to {money(cents)}. Cancel the old one and "
            "make a new one from the same account, from the same due day.",
            f"Replace my order to {payee.name} by one of {money(cents)} a month; account and next "
            "due day stay as they are.",
        )
    )
    return Chain(
        said_by(customer, chance, request),
        sign_in(customer),
        call("find_payee", session=SESSION, name=payee.name),
        call("find_orders", session=SESSION, payee=out(1, "/payee")),
        call("cancel_order", session=SESSION, order=out(2, "/orders/0/order")),
        call(
            "schedule_payment",
            session=SESSION,
            source=out(2, "/orders/0/source"),
            payee=out(1, "/payee"),
            amount=cents / 100,
            first=out(2, "/orders/0/due"),
            every="monthly",
        ),
    )


# -- holds and freezes --------------------------------------------------------------------------


@chain("place_hold")
def place_hold(bank: Bank, chance: Chance) -> Chain | None:
    """Money set aside."""
    customer = customer_of(bank, chance)
    account = chance.pick(accounts_of(bank, customer))
    cents = cents_up_to(bank, account, chance)
    if not cents or account.freeze is not Freeze.NO or account.kind is AccountKind.FIXED:
        return None
    purpose, until = chance.pick(("Piano", "Trip", "Tax", "Course")), later(bank, chance, 5, 80)
    amount = money(cents, account.currency)
    request = chance.pick(
        (
            f'Set {amount} on {account.name} aside until {until} and call it "{purpose}".',
            f'Hold back {amount} of {account.name} through {until}; the purpose is "{purpose}".',
        )
    )
    return Chain(
        said_by(customer, chance, request),
        sign_in(customer),
        call("find_account", session=SESSION, name=account.name),
        call(
            "place_hold",
            session=SESSION,
            account=ACCOUNT,
            amount=cents / 100,
            until=until,
            purpose=purpose,
        ),
    )


@chain("release_hold_and_pay")
def release_hold_and_pay(bank: Bank, chance: Chance) -> Chain | None:
    """A payment with money that was set aside."""
    customer = customer_of(bank, chance)
    everyday = everyday_of(bank, customer)
    hold = own_hold(bank, everyday)
    if hold is None:
        return None
    cents = min(hold.cents, everyday.daily_limit)
    payee = payee_for(bank, everyday, chance)
    request = chance.pick(
        (
            f'Release the hold "{hold.purpose}" on Everyday, and then pay {payee.name} '
            f"{money(cents)} from it.",
            f'I need the money that I set aside for "{hold.purpose}" on Everyday: release it and '
            f"send {money(cents)} from there to {payee.name}.",
        )
    )
    return Chain(
        said_by(customer, chance, request),
        sign_in(customer),
        together(
            call("find_account", session=SESSION, name="Everyday"),
            call("find_payee", session=SESSION, name=payee.name),
        ),
        call("release_hold", session=SESSION, hold=out(1, "/holds/0/hold")),
        call(
            "pay_payee",
            after=(3,),
            session=SESSION,
            source=ACCOUNT,
            payee=out(2, "/payee"),
            amount=cents / 100,
        ),
    )


@chain("freeze_account")
def freeze_account(bank: Bank, chance: Chance) -> Chain | None:
    """A freeze."""
    customer = customer_of(bank, chance)
    account = chance.pick(accounts_of(bank, customer, AccountKind.CURRENT))
    if account.freeze is not Freeze.NO:
        return None
    request = chance.pick(
        (
            f"I lost my card. Freeze my account {account.name}.",
            f"Nothing may leave {account.name} for now; please freeze it.",
        )
    )
    return Chain(
        said_by(customer, chance, request),
        sign_in(customer),
        call("find_account", session=SESSION, name=account.name),
        call("set_freeze", session=SESSION, account=ACCOUNT, frozen=True),
    )


@chain("unfreeze_and_pay")
def unfreeze_and_pay(bank: Bank, chance: Chance) -> Chain | None:
    """A payment from an account that its owner froze."""
    frozen = [a for a in bank.accounts.values() if a.freeze is Freeze.CUSTOMER]
    account = chance.pick(frozen)
    customer = bank.customers[account.customer]
    payee = payee_for(bank, account, chance)
    cents = cents_up_to(bank, account, chance)
    if not cents:
        return None
    request = chance.pick(
        (
            f"I froze {account.name} a while ago. Lift that, and pay {payee.name} {money(cents)} "
            "from it.",
            f"Unfreeze my account {account.name} and send {money(cents)} from it to {payee.name}.",
        )
    )
    return Chain(
        said_by(customer, chance, request),
        sign_in(customer),
        together(
            call("find_account", session=SESSION, name=account.name),
            call("find_payee", session=SESSION, name=payee.name),
        ),
        call("set_freeze", session=SESSION, account=ACCOUNT, frozen=False),
        call(
            "pay_payee",
            after=(3,),
            session=SESSION,
            source=ACCOUNT,
            payee=out(2, "/payee"),
            amount=cents / 100,
        ),
    )


# -- refusals: the last call is refused ---------------------------------------------------------


def asked(customer: Customer, request: str, *steps: Call | tuple[Call, ...]) -> Chain:
    """A chain that starts with signing in."""
    said = f'I\'m {customer.name}, access phrase "{customer.phrase}". {request}'
    return Chain(said, sign_in(customer), *steps)


def find_account(name: str) -> Call:
    """A search by name."""
    return call("find_account", session=SESSION, name=name)


def payment(bank: Bank, account: Account, payee: Payee, cents: int, *, times: int = 1) -> Chain:
    """Find account and payee, then pay, once or several times."""
    pay = call(
        "pay_payee", session=SESSION, source=ACCOUNT, payee=out(2, "/payee"), amount=cents / 100
    )
    return asked(
        bank.customers[account.customer],
        f"Pay {payee.name} {money(cents, account.currency)} from {account.name}.",
        find_account(account.name),
        call("find_payee", session=SESSION, name=payee.name),
        *[pay] * times,
    )


def account_where(bank: Bank, chance: Chance, **fields: object) -> Account:
    """A customer's account whose fields have these values."""
    found = [
        a
        for a in bank.accounts.values()
        if a.customer and all(getattr(a, key) == value for key, value in fields.items())
    ]
    return chance.pick(found)


@refusal("sign_in_failed")
def sign_in_failed(bank: Bank, chance: Chance) -> Chain | None:
    """Another customer's phrase."""
    customer, other = (customer_of(bank, chance) for _ in range(2))
    if customer == other:
        return None
    wrong = call("sign_in", name=customer.name, phrase=other.phrase)
    return Chain(f'I\'m {customer.name}, "{other.phrase}". What do I have?', wrong)


@refusal("session_expired")
def session_expired(bank: Bank, chance: Chance) -> Chain | None:
    """A session of an hour ago."""
    session = chance.pick(list(bank.sign_ins.values())).id
    return Chain(
        f"I signed in at eight, my session is {session}. What do I have?",
        call("list_accounts", session=session),
    )


@refusal("unknown_session")
def unknown_session(bank: Bank, chance: Chance) -> Chain | None:
    """A session that never was."""
    return Chain(
        "My session is SE-0123456789. What do I have?",
        call("list_accounts", session="SE-0123456789"),
    )


@refusal("unknown_account")
def unknown_account(bank: Bank, chance: Chance) -> Chain | None:
    """A name that no account has."""
    customer = customer_of(bank, chance)
    return asked(customer, "What is on my Pension account?", find_account("Pension"))


@refusal("unknown_payee")
def unknown_payee(bank: Bank, chance: Chance) -> Chain | None:
    """A name that no payee has."""
    return asked(
        customer_of(bank, chance),
        "Which number did I store for the Tax Office?",
        call("find_payee", session=SESSION, name="Tax Office"),
    )


@refusal("unknown_order")
def unknown_order(bank: Bank, chance: Chance) -> Chain | None:
    """Another customer's order."""
    customer, other = (customer_of(bank, chance) for _ in range(2))
    order = order_of(bank, other, chance).id
    if customer == other:
        return None
    cancel = call("cancel_order", session=SESSION, order=order)
    return asked(customer, f"Cancel the order {order}.", cancel)


@refusal("unknown_hold")
def unknown_hold(bank: Bank, chance: Chance) -> Chain | None:
    """A hold that was just released."""
    customer = customer_of(bank, chance)
    if own_hold(bank, everyday_of(bank, customer)) is None:
        return None
    release = call("release_hold", session=SESSION, hold=out(1, "/holds/0/hold"))
    request = "Release my hold on Everyday, twice to be sure."
    return asked(customer, request, find_account("Everyday"), release, release)


@refusal("insufficient_funds")
def insufficient_funds(bank: Bank, chance: Chance) -> Chain | None:
    """A cent more than is available."""
    account = account_where(bank, chance, name="Everyday")
    payee = payee_for(bank, account, chance)
    return payment(bank, account, payee, bank.available(account) + 1)


@refusal("daily_limit")
def daily_limit(bank: Bank, chance: Chance) -> Chain | None:
    """There is enough money, and the limit is lower."""
    account = account_where(bank, chance, name="Everyday")
    cents = account.daily_limit + 50_00
    if cents > bank.available(account):
        return None
    return payment(bank, account, payee_for(bank, account, chance), cents)


@refusal("duplicate_payment")
def duplicate_payment(bank: Bank, chance: Chance) -> Chain | None:
    """The same payment twice."""
    account = account_where(bank, chance, name="Everyday")
    return payment(bank, account, payee_for(bank, account, chance), 10_00, times=2)


@refusal("account_frozen")
def account_frozen(bank: Bank, chance: Chance) -> Chain | None:
    """A payment from a frozen account."""
    account = account_where(bank, chance, freeze=Freeze.CUSTOMER)
    return payment(bank, account, payee_for(bank, account, chance), 10_00)


@refusal("frozen_by_bank")
def frozen_by_bank(bank: Bank, chance: Chance) -> Chain | None:
    """A freeze that is not the customer's."""
    account = account_where(bank, chance, freeze=Freeze.BANK)
    return asked(
        bank.customers[account.customer],
        f"Lift the freeze of {account.name}.",
        find_account(account.name),
        call("set_freeze", session=SESSION, account=ACCOUNT, frozen=False),
    )


@refusal("nothing_to_change")
def nothing_to_change(bank: Bank, chance: Chance) -> Chain | None:
    """A freeze lifted where there is none."""
    return asked(
        customer_of(bank, chance),
        "Make sure that my account Everyday is not frozen.",
        find_account("Everyday"),
        call("set_freeze", session=SESSION, account=ACCOUNT, frozen=False),
    )


@refusal("payee_not_confirmed")
def payee_not_confirmed(bank: Bank, chance: Chance) -> Chain | None:
    """A payment before the code."""
    account = account_where(bank, chance, name="Everyday")
    customer = bank.customers[account.customer]
    payee = chance.pick(payees_of(bank, customer, confirmed=False))
    return payment(bank, account, payee, 10_00)


@refusal("not_a_current_account")
def not_a_current_account(bank: Bank, chance: Chance) -> Chain | None:
    """A payment out of savings."""
    account = account_where(bank, chance, kind=AccountKind.SAVINGS)
    return payment(bank, account, payee_for(bank, account, chance), 10_00)


@refusal("currency_mismatch")
def currency_mismatch(bank: Bank, chance: Chance) -> Chain | None:
    """Euros to a payee who takes others."""
    account = account_where(bank, chance, name="Everyday")
    payees = payees_of(bank, bank.customers[account.customer])
    payee = next(p for p in payees if p.currency != "EUR")
    return payment(bank, account, payee, 10_00)


@refusal("wrong_code")
def wrong_code(bank: Bank, chance: Chance) -> Chain | None:
    """A code with wrong digits."""
    customer = customer_of(bank, chance)
    payee = chance.pick(payees_of(bank, customer, confirmed=False))
    code = f"{(int(payee.code) + 9) % 10**6:06d}"
    return asked(
        customer,
        f"Confirm {payee.name}, the code is {code}.",
        call("find_payee", session=SESSION, name=payee.name),
        call("confirm_payee", session=SESSION, payee=out(1, "/payee"), code=code),
    )


def adding(customer: Customer, name: str, number: str) -> Chain:
    """Add a payee."""
    add = call("add_payee", session=SESSION, name=name, number=number, currency="EUR")
    return asked(customer, f"Add the payee {name}, {number}, in EUR.", add)


@refusal("payee_exists")
def payee_exists(bank: Bank, chance: Chance) -> Chain | None:
    """A payee added again."""
    customer = customer_of(bank, chance)
    payee = chance.pick(payees_of(bank, customer))
    return adding(customer, payee.name, payee.number)


@refusal("bad_number")
def bad_number(bank: Bank, chance: Chance) -> Chain | None:
    """A mistyped number."""
    number = account_where(bank, chance, name="Everyday").number
    mistyped = f"{number[:-1]}{(int(number[-1]) + 1) % 10}"
    return adding(customer_of(bank, chance), "Jonas Wren", mistyped)


@refusal("name_mismatch")
def name_mismatch(bank: Bank, chance: Chance) -> Chain | None:
    """A number of somebody else."""
    customer = customer_of(bank, chance)
    account = account_where(bank, chance, name="Everyday")
    if account.customer == customer.id:
        return None
    return adding(customer, "Jonas Wren", account.number)


@refusal("own_account")
def own_account(bank: Bank, chance: Chance) -> Chain | None:
    """One's own number."""
    customer = customer_of(bank, chance)
    return adding(customer, customer.name, everyday_of(bank, customer).number)


def moving(customer: Customer, source: str, target: str, amount: float) -> Chain:
    """Move money between two accounts."""
    return asked(
        customer,
        f"Move {amount} from {source} to {target}.",
        find_account(source),
        find_account(target),
        call(
            "move_money",
            session=SESSION,
            source=ACCOUNT,
            target=out(2, "/account"),
            amount=amount,
        ),
    )


@refusal("fixed_term")
def fixed_term(bank: Bank, chance: Chance) -> Chain | None:
    """Money out of a fixed deposit."""
    account = account_where(bank, chance, kind=AccountKind.FIXED)
    return moving(bank.customers[account.customer], account.name, "Everyday", 50.0)


@refusal("same_account")
def same_account(bank: Bank, chance: Chance) -> Chain | None:
    """From an account to itself."""
    return moving(customer_of(bank, chance), "Everyday", "Everyday", 50.0)


@refusal("fraction_of_a_cent")
def fraction_of_a_cent(bank: Bank, chance: Chance) -> Chain | None:
    """Three decimals."""
    account = account_where(bank, chance, kind=AccountKind.SAVINGS)
    return moving(bank.customers[account.customer], "Everyday", account.name, 33.333)


def quote(amount: float, sell: str, buy: str) -> Chain:
    """Ask for a rate."""
    request = f"What do {amount} {sell} buy in {buy}?"
    return Chain(request, call("quote_exchange", sell=sell, buy=buy, amount=amount))


@refusal("same_currency")
def same_currency(bank: Bank, chance: Chance) -> Chain | None:
    """Euros for euros."""
    return quote(20.0, "EUR", "EUR")


@refusal("amount_too_small")
def amount_too_small(bank: Bank, chance: Chance) -> Chain | None:
    """A cent that buys none."""
    return quote(0.01, "USD", "GBP")


@refusal("merchant_hold")
def merchant_hold(bank: Bank, chance: Chance) -> Chain | None:
    """A shop's hold."""
    hold = chance.pick([h for h in bank.holds.values() if h.merchant])
    account = bank.accounts[hold.account]
    return asked(
        bank.customers[account.customer],
        f"Release the hold of {hold.merchant} on {account.name}.",
        find_account(account.name),
        call("release_hold", session=SESSION, hold=out(1, "/holds/0/hold")),
    )


@refusal("no_statement")
def no_statement(bank: Bank, chance: Chance) -> Chain | None:
    """A month before the account."""
    return asked(
        customer_of(bank, chance),
        "What did I spend from Everyday in July 2023?",
        find_account("Everyday"),
        call("get_statement", session=SESSION, account=ACCOUNT, month="2023-07"),
    )


@refusal("bad_date")
def bad_date(bank: Bank, chance: Chance) -> Chain | None:
    """A day that is over."""
    account = account_where(bank, chance, name="Everyday")
    payee = payee_for(bank, account, chance)
    return asked(
        bank.customers[account.customer],
        f"Pay {payee.name} 10.00 euros from Everyday, on 2025-06-01.",
        find_account("Everyday"),
        call("find_payee", session=SESSION, name=payee.name),
        call(
            "schedule_payment",
            session=SESSION,
            source=ACCOUNT,
            payee=out(2, "/payee"),
            amount=10.0,
            first="2025-06-01",
        ),
    )


@refusal("order_over")
def order_over(bank: Bank, chance: Chance) -> Chain | None:
    """An order cancelled twice."""
    customer = customer_of(bank, chance)
    cancel = call("cancel_order", session=SESSION, order=out(1, "/orders/0/order"))
    return asked(
        customer,
        "Cancel my order that pays next, twice to be sure.",
        call("find_orders", session=SESSION),
        cancel,
        cancel,
    )

"""The bank against its oracle: money is conserved, and a balance is the sum of its entries.

The oracle (``banking_oracle.py``) keeps entries and knows the rules once more; whatever is called,
it says beforehand whether the bank refuses and why, and afterwards how much each account has.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orch_env.servers import ServerSession, open_session
from tests.orch_env.servers.banking_oracle import Bank
from tools.server_tasks.chains import templates_of

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/servers/banking.md"
CODE = ROOT / "orch_env/servers/domains/banking"
DAY = 24 * 60


def rows(session: ServerSession, table: str) -> list[Any]:
    return list(getattr(session.server, table).values())


def laws_hold(session: ServerSession) -> None:
    assert list(session.server.invariants()) == []


class Desk:
    """A customer who is signed in."""

    def __init__(self, session: ServerSession, customer: Any) -> None:
        self.session, self.customer = session, customer
        self.token: str = self("sign_in", name=customer.name, phrase=customer.phrase)["session"]

    def result(self, tool: str, **arguments: Any) -> Any:
        needs = "session" in self.session.tools[tool].spec.parameters["properties"]
        given = {"session": self.token, **arguments} if needs else arguments
        return self.session.call(tool, given)

    def __call__(self, tool: str, **arguments: Any) -> Any:
        """The result of a call that succeeds; the laws hold after it."""
        result = self.result(tool, **arguments)
        assert result.error is None, result.text
        laws_hold(self.session)
        return json.loads(result.text)

    def refused(self, tool: str, **arguments: Any) -> Any:
        """The details of the refusal of a call that changes nothing."""
        before = self.session.state_hash()
        result = self.result(tool, **arguments)
        assert result.error is not None, result.text
        assert self.session.state_hash() == before
        return json.loads(result.text)["error"]["details"]

    def find(self, name: str = "Everyday") -> Any:
        return self("find_account", name=name)

    def payee(self, **fields: Any) -> Any:
        """One of the customer's payees with these fields."""
        fields = {"confirmed": True, "currency": "EUR", "account": "", **fields}
        return next(
            p
            for p in rows(self.session, "payees")
            if p.customer == self.customer.id
            and all(getattr(p, key) == value for key, value in fields.items())
        )

    def wait(self, days: int) -> None:
        """Days pass, and the customer signs in again."""
        self.session.clock.set(self.session.clock.calls + days * DAY)
        self("sign_in", name=self.customer.name, phrase=self.customer.phrase)


def desk(seed: int = 0, **fields: Any) -> Desk:
    """A customer who has an account with these fields, and 500 on Everyday."""
    session = open_session("banking", seed)
    everyday = {a.customer: a for a in rows(session, "accounts") if a.name == "Everyday"}
    for account in rows(session, "accounts"):
        main = everyday.get(account.customer)
        if main and all(getattr(account, key) == value for key, value in fields.items()):
            held = [h.cents for h in rows(session, "holds") if h.account == main.id]
            if main.balance - sum(held) > 500_00:
                return Desk(session, session.server.customers[account.customer])
    raise AssertionError(f"world {seed} has no such customer: {fields}")


# -- the oracle ----------------------------------------------------------------------------------

CENTS = st.one_of(st.integers(1, 20_00), st.integers(20_00, 900_00), st.integers(1, 4_000_00))
PLACE = st.integers(0, 10_000)


class AtTheBank(RuleBasedStateMachine):
    """One customer does whatever comes to mind, and the oracle goes along."""

    @initialize(seed=st.integers(0, 7), number=st.integers(0, 13))
    def begin(self, seed: int, number: int) -> None:
        self.session = open_session("banking", seed)
        self.customer = rows(self.session, "customers")[number]
        self.bank = Bank.of(self.session)
        self.codes = {key: p["code"] for key, p in self.bank.payees.items()}
        self.token, self.until = "SE-0000000000", None
        self.sign_in(right=True)

    # What the customer has, by a number that is drawn.

    def mine(self, kind: str) -> list[str]:
        records: dict[str, Any] = getattr(self.bank, kind)
        return [key for key, its in records.items() if its["customer"] == self.customer.id]

    def account(self, place: int) -> str:
        own = self.mine("accounts")
        # Most often the first one, from which most is possible.
        return own[place % len(own)] if place % 3 else own[0]

    def payee(self, place: int) -> str:
        own = self.mine("payees")
        return own[place % len(own)]

    def call(self, tool: str, expected: str | None, **arguments: Any) -> Any:
        """Call, and compare with what the oracle expects: a refusal's reason, or success."""
        minute = self.session.clock.now
        if "session" in self.session.tools[tool].spec.parameters["properties"]:
            arguments["session"] = self.token
            if minute > self.until:
                expected = "session_expired"
        result = self.session.call(tool, arguments)
        answer = json.loads(result.text)
        if expected is not None:
            assert result.error is not None, (result.text, expected)
            assert answer["error"]["details"]["reason"] == expected, (result.text, expected)
            return None
        assert result.error is None, result.text
        return answer

    def agree(self) -> None:
        """The bank's books are the oracle's, and no money came or went."""
        laws_hold(self.session)
        totals: Counter[str] = Counter()
        sums: Counter[str] = Counter()
        for entry in self.bank.entries:
            sums[entry.account] += entry.cents
        for account in rows(self.session, "accounts"):
            totals[account.currency] += account.balance
            assert account.balance == sums[account.id], account
        assert not any(totals.values())
        assert set(self.session.server.holds) == set(self.bank.holds)

    @rule(right=st.booleans())
    def sign_in(self, right: bool) -> None:
        now = self.session.clock.now
        phrase = self.customer.phrase if right else "river stone sky"
        done = self.call(
            "sign_in",
            None if right else "sign_in_failed",
            name=self.customer.name,
            phrase=phrase,
        )
        if done:
            self.token, self.until = done["session"], now + timedelta(minutes=15)
            self.agree()

    @rule(source=PLACE, taking=PLACE, cents=CENTS)
    def move(self, source: int, taking: int, cents: int) -> None:
        giver, taker = self.account(source), self.account(taking)
        refused = self.bank.cannot_move(giver, taker, cents)
        asked = {"source": giver, "target": taker, "amount": cents / 100}
        if self.call("move_money", refused, **asked):
            self.bank.move(giver, taker, cents)
            self.agree()

    @rule(source=PLACE, payee=PLACE, cents=CENTS, reference=st.sampled_from(["", "Rent", "Gift"]))
    def pay(self, source: int, payee: int, cents: int, reference: str) -> None:
        giver, taker = self.account(source), self.payee(payee)
        again = self.bank.paid_already(giver, taker, cents, reference)
        refused = self.bank.cannot_pay(giver, taker, cents)
        asked = {"source": giver, "payee": taker, "amount": cents / 100, "reference": reference}
        done = self.call("pay_payee", "duplicate_payment" if again else refused, **asked)
        if done:
            self.bank.pay(giver, taker, cents, reference, "payment")
            assert done["balance"] == self.bank.balance(giver) / 100
            assert done["fee"] == self.bank.abroad(taker) / 100
            self.agree()

    @rule(source=PLACE, payee=PLACE, share=st.integers(1, 100))
    def pay_what_is_possible(self, source: int, payee: int, share: int) -> None:
        """Nearly all that the account can give, where a payee takes its currency."""
        giver = self.account(source)
        currency = self.bank.accounts[giver]["currency"]
        fits = [
            p
            for p in self.mine("payees")
            if self.bank.payees[p]["currency"] == currency and self.bank.payees[p]["confirmed"]
        ]
        most = self.bank.available(giver)
        if fits and most >= 1_00:
            place = self.mine("payees").index(fits[payee % len(fits)])
            self.pay(source, place, min(most, 10**8) * share // 100 or 1, "Most of it")

    @rule(number=PLACE, name=st.sampled_from(["A. Reader", "Everyday", "friend"]))
    def add(self, number: int, name: str) -> None:
        """A payee whose number is a customer's, one's own, mistyped, or another bank's."""
        every = [a for a in self.bank.accounts.values() if a["customer"] and a["currency"] == "EUR"]
        target = every[number % len(every)]
        holder = self.session.server.customers[target["customer"]].name
        given = holder if name == "friend" else name
        names = {self.bank.payees[p]["name"].lower() for p in self.mine("payees")}
        digits = target["number"]
        expected: str | None = None
        if number % 5 == 0:
            digits = digits[:-1] + str((int(digits[-1]) + 3) % 10)
            expected = "bad_number"
        elif given.lower() in names:
            expected = "payee_exists"
        elif target["customer"] == self.customer.id:
            expected = "own_account"
        elif given != holder:
            expected = "name_mismatch"
        asked = {"name": given, "number": digits, "currency": "EUR"}
        done = self.call("add_payee", expected, **asked)
        if done:
            its = {**asked, "customer": self.customer.id, "account": target["id"]}
            self.bank.payees[done["payee"]] = {**its, "confirmed": False}
            self.codes[done["payee"]] = done["code"]

    @rule(payee=PLACE, right=st.booleans())
    def confirm(self, payee: int, right: bool) -> None:
        key = self.payee(payee)
        code = self.codes[key] if right else f"{(int(self.codes[key]) + 1) % 10**6:06d}"
        expected = None if right else "wrong_code"
        if self.bank.payees[key]["confirmed"]:
            expected = "nothing_to_change"
        if self.call("confirm_payee", expected, payee=key, code=code):
            self.bank.payees[key]["confirmed"] = True

    @rule(
        source=PLACE,
        payee=PLACE,
        cents=CENTS,
        ahead=st.one_of(st.integers(1, 40), st.integers(0, 370)),
        every=st.sampled_from(["once", "weekly", "monthly"]),
        lasts=st.one_of(st.none(), st.integers(-1, 120)),
    )
    def schedule(
        self, source: int, payee: int, cents: int, ahead: int, every: str, lasts: int | None
    ) -> None:
        giver, taker = self.account(source), self.payee(payee)
        self.bank.live_until(self.session.clock.now.date().isoformat())
        start = date.fromisoformat(self.bank.today) + timedelta(days=ahead)
        until = None if lasts is None else (start + timedelta(days=lasts)).isoformat()
        asked = {"source": giver, "payee": taker, "first": start.isoformat(), "every": every}
        expected = "bad_date" if not 1 <= ahead <= 365 or (lasts or 0) < 0 else None
        expected = expected or self.bank.cannot_route(giver, taker)
        if expected is None and cents > self.bank.accounts[giver]["daily_limit"]:
            expected = "daily_limit"
        more = {} if until is None else {"until": until}
        done = self.call("schedule_payment", expected, amount=cents / 100, **asked, **more)
        if done:
            its = {**asked, "cents": cents, "until": until, "customer": self.customer.id}
            self.bank.orders[done["order"]] = {**its, "state": "active", "reference": ""}
            self.agree()

    @rule(place=PLACE)
    def cancel(self, place: int) -> None:
        own = self.mine("orders")
        key = own[place % len(own)]
        self.bank.live_until(self.session.clock.now.date().isoformat())
        expected = None if self.bank.active(key) else "order_over"
        if self.call("cancel_order", expected, order=key):
            self.bank.orders[key]["state"] = "cancelled"

    @rule(account=PLACE, cents=CENTS, ahead=st.integers(-1, 91))
    def hold(self, account: int, cents: int, ahead: int) -> None:
        key = self.account(account)
        until = (date.fromisoformat(self.bank.today) + timedelta(days=ahead)).isoformat()
        expected = self.bank.cannot_give(key, cents) if 0 <= ahead <= 90 else "bad_date"
        asked = {"account": key, "amount": cents / 100, "until": until, "purpose": "Later"}
        done = self.call("place_hold", expected, **asked)
        if done:
            its = {"account": key, "cents": cents, "until": until, "merchant": ""}
            self.bank.holds[done["hold"]] = its
            assert done["available"] == self.bank.available(key) / 100
            self.agree()

    @precondition(lambda self: self.bank.holds)
    @rule(place=PLACE)
    def release(self, place: int) -> None:
        key = sorted(self.bank.holds)[place % len(self.bank.holds)]
        its = self.bank.holds[key]
        mine = its["account"] in self.mine("accounts")
        expected = "unknown_hold" if not mine else "merchant_hold" if its["merchant"] else None
        if self.call("release_hold", expected, hold=key):
            del self.bank.holds[key]
            self.agree()

    @rule(account=PLACE, frozen=st.booleans())
    def freeze(self, account: int, frozen: bool) -> None:
        key = self.account(account)
        state, wanted = self.bank.frozen[key], "by customer" if frozen else "no"
        expected = "frozen_by_bank" if state == "by bank" else None
        expected = "nothing_to_change" if state == wanted else expected
        if self.call("set_freeze", expected, account=key, frozen=frozen):
            self.bank.frozen[key] = wanted

    @rule(days=st.integers(0, 40), again=st.sampled_from([True, True, True, False]))
    def wait(self, days: int, again: bool) -> None:
        self.session.clock.set(self.session.clock.calls + days * DAY)
        self.bank.live_until(self.session.clock.now.date().isoformat())
        if again:
            self.sign_in(right=True)

    @rule(account=PLACE, back=st.integers(0, 3))
    def read(self, account: int, back: int) -> None:
        """What a customer reads is what the oracle's entries say."""
        key = self.account(account)
        name = self.bank.accounts[key]["name"]
        before = self.session.state_hash()
        shown = self.call("find_account", None, name=name)
        if shown:
            assert shown["balance"] == self.bank.balance(key) / 100
            assert shown["available"] == self.bank.available(key) / 100
        own = [e for e in self.bank.entries if e.account == key]
        month = sorted({e.day[:7] for e in own} | {self.bank.today[:7]})[-1 - back :][0]
        paper = self.call("get_statement", None, account=key, month=month)
        if paper:
            then = [e.cents for e in own if e.day[:7] == month]
            closing = sum(e.cents for e in own if e.day[:7] <= month)
            assert paper["closing"] == closing / 100
            assert paper["opening"] == (closing - sum(then)) / 100
            assert paper["money_in"] == sum(c for c in then if c > 0) / 100
            assert paper["money_out"] == -sum(c for c in then if c < 0) / 100
            assert paper["entries"] == len(then)
        out = self.call("search_entries", None, account=key, direction="out", since=f"{month}-01")
        if out:
            since = [e for e in own if e.day >= f"{month}-01"]
            assert out["found"] == sum(e.cents < 0 for e in since)
        assert self.session.state_hash() == before


@pytest.mark.parametrize(
    "many",
    [False, pytest.param(True, marks=[pytest.mark.long, pytest.mark.timeout(3600)])],
    ids=["few", "many"],
)
def test_the_bank_agrees_with_the_oracle_whatever_is_called(many: bool) -> None:
    steps = settings(max_examples=400 if many else 25, stateful_step_count=50 if many else 30)
    run_state_machine_as_test(AtTheBank, settings=steps)  # type: ignore[no-untyped-call]


# -- rules as claims -----------------------------------------------------------------------------


def test_a_session_ends_after_fifteen_minutes_and_signing_in_again_renews_it() -> None:
    at = desk()
    for _ in range(15):
        assert at.result("list_accounts").error is None
    assert at.refused("list_accounts")["reason"] == "session_expired"
    again = at("sign_in", name=at.customer.name, phrase=at.customer.phrase)
    assert again["session"] == at.token
    assert at("list_accounts")["accounts"]


def test_the_accounts_payees_orders_and_holds_of_others_do_not_exist_for_a_customer() -> None:
    at = desk()
    other = desk(kind="savings", freeze="no").session
    theirs = {
        table: next(
            r for r in rows(other, table) if getattr(r, "customer", "") not in ("", at.customer.id)
        ).id
        for table in ("accounts", "payees", "orders")
    }
    mine = at.find()["account"]
    hold = next(
        h
        for h in rows(at.session, "holds")
        if at.session.server.accounts[h.account].customer != at.customer.id
    )
    move = {"source": theirs["accounts"], "target": mine, "amount": 1}
    assert at.refused("move_money", **move)["reason"] == "unknown_account"
    pay = {"source": mine, "payee": theirs["payees"], "amount": 1}
    assert at.refused("pay_payee", **pay)["reason"] == "unknown_payee"
    assert at.refused("cancel_order", order=theirs["orders"])["reason"] == "unknown_order"
    assert at.refused("release_hold", hold=hold.id)["reason"] == "unknown_hold"
    assert at.refused("find_orders", payee=theirs["payees"])["reason"] == "unknown_payee"


def test_a_frozen_account_sends_nothing_and_takes_money() -> None:
    at = desk(kind="savings")
    everyday, savings = at.find(), at("list_accounts", currency="EUR")["accounts"]
    other = next(a["account"] for a in savings if a["kind"] == "savings")
    at("set_freeze", account=everyday["account"], frozen=True)
    pay = {"source": everyday["account"], "payee": at.payee().id, "amount": 5}
    assert at.refused("pay_payee", **pay)["reason"] == "account_frozen"
    hold = {"account": everyday["account"], "amount": 5, "until": "2025-06-20", "purpose": "x"}
    assert at.refused("place_hold", **hold)["reason"] == "account_frozen"
    at("move_money", source=other, target=everyday["account"], amount=5)
    assert at.find()["balance"] == pytest.approx(everyday["balance"] + 5)
    assert at.find()["frozen"] == "by customer"
    at("set_freeze", account=everyday["account"], frozen=False)
    at("pay_payee", **pay)


def test_a_hold_keeps_money_back_and_ends_after_its_last_day() -> None:
    at = desk()
    everyday = at.find()
    held = {"account": everyday["account"], "amount": 40.5, "purpose": "Boots"}
    placed = at("place_hold", **held, until="2025-06-11")
    assert placed["available"] == pytest.approx(everyday["available"] - 40.5)
    assert at.find()["holds"][-1] == {
        "hold": placed["hold"],
        "amount": 40.5,
        "purpose": "Boots",
        "until": "2025-06-11",
        "merchant": None,
    }
    at.wait(1)
    assert placed["hold"] in at.session.server.holds
    before = at.session.state_hash()
    at.session.clock.set(at.session.clock.calls + DAY)
    at.refused("release_hold", hold=placed["hold"])
    assert at.session.state_hash() == before, "what a refused call settles is dropped"
    at.wait(0)
    assert placed["hold"] not in at.session.server.holds
    assert at.refused("place_hold", **held, until="2025-06-11")["reason"] == "bad_date"
    at("place_hold", **held, until="2025-09-10")
    assert at.refused("place_hold", **held, until="2025-09-11")["reason"] == "bad_date"


def test_a_new_payee_is_paid_only_after_the_code() -> None:
    at = desk()
    digits = "".join(str(int(c, 36)) for c in "TARN0000012345GB00")
    number = f"GB{98 - int(digits) % 97:02d}TARN0000012345"
    added = at("add_payee", name="Ilse Tarn", number=number, currency="EUR")
    pay = {"source": at.find()["account"], "payee": added["payee"], "amount": 10.25}
    assert at.refused("pay_payee", **pay)["reason"] == "payee_not_confirmed"
    assert at("find_payee", name="ilse tarn")["confirmed"] is False
    wrong = f"{(int(added['code']) + 1) % 10**6:06d}"
    asked = {"payee": added["payee"], "code": wrong}
    assert at.refused("confirm_payee", **asked)["reason"] == "wrong_code"
    at("confirm_payee", payee=added["payee"], code=added["code"])
    before = at.find()["balance"]
    paid = at("pay_payee", **pay)
    assert paid["fee"] == 2.5, "the number is of another country"
    assert paid["balance"] == at.find()["balance"] == pytest.approx(before - 12.75)
    assert at.session.server.accounts["fees-EUR"].balance >= 250


def test_a_number_with_one_wrong_digit_is_refused() -> None:
    at = desk()
    number = next(a.number for a in rows(at.session, "accounts") if a.customer)
    for place in (2, 3, 8, 12, 17):
        wrong = number[:place] + str((int(number[place]) + 1) % 10) + number[place + 1 :]
        asked = {"name": "Ada Byrne", "number": wrong, "currency": "EUR"}
        assert at.refused("add_payee", **asked)["reason"] == "bad_number"


def test_the_currency_of_an_account_here_must_be_the_one_that_is_named() -> None:
    at = desk()
    known = {p.name for p in rows(at.session, "payees") if p.customer == at.customer.id}
    people = at.session.server.customers
    holder = next(
        a
        for a in rows(at.session, "accounts")
        if a.customer not in ("", at.customer.id)
        and a.currency != "EUR"
        and people[a.customer].name not in known
    )
    name = people[holder.customer].name
    asked = {"name": name, "number": holder.number}
    refused = at.refused("add_payee", **asked, currency="EUR")
    assert refused == {"reason": "currency_mismatch", "currency": holder.currency}
    at("add_payee", **asked, currency=holder.currency)


def test_an_exchange_is_what_the_quote_said() -> None:
    at = desk(currency="GBP")
    source = at.find()
    target = next(a for a in at("list_accounts")["accounts"] if a["currency"] == "GBP")
    quote = at("quote_exchange", sell="EUR", buy="GBP", amount=123.45)
    assert quote["bought"] == int(123.45 * quote["rate"] * 100 + 1e-6) / 100
    assert quote["fee"] == 0.62, "half a per cent, rounded up"
    moved = at("move_money", source=source["account"], target=target["account"], amount=123.45)
    assert (moved["received"], moved["fee"]) == (quote["bought"], quote["fee"])
    assert moved["balance"] == pytest.approx(source["balance"] - 123.45 - 0.62)
    assert at.find(target["name"])["balance"] == pytest.approx(target["balance"] + quote["bought"])


def test_the_daily_limit_counts_payments_and_not_moves() -> None:
    at = desk(kind="savings")
    savings = next(a for a in at("list_accounts")["accounts"] if a["kind"] == "savings")
    everyday = at.find()
    limit = everyday["daily_limit"]
    state = at.session.server.accounts[everyday["account"]]
    payee = at.payee().id
    spare = everyday["available"]
    assert spare > 60
    at("move_money", source=everyday["account"], target=savings["account"], amount=10)
    at("pay_payee", source=everyday["account"], payee=payee, amount=20)
    left = at.session.server.paid_on(state.id, "2025-06-10")
    assert left == 20_00
    assert at.session.server.paid_on(state.id, "2025-06-11") == 0
    order = {"source": state.id, "payee": payee, "amount": limit + 0.01, "first": "2025-06-11"}
    assert at.refused("schedule_payment", **order) == {"reason": "daily_limit", "left": limit}
    at("schedule_payment", **{**order, "amount": limit})


def test_a_payment_is_not_made_twice_by_mistake() -> None:
    at = desk()
    pay = {"source": at.find()["account"], "payee": at.payee().id, "amount": 7}
    first = at("pay_payee", **pay)
    refused = at.refused("pay_payee", **pay)
    assert refused == {"reason": "duplicate_payment", "entry": first["entry"]}
    at("pay_payee", **pay, reference="second")
    at.wait(1)
    at("pay_payee", **pay)


def days_of(at: Desk, account: str, party: str) -> list[str]:
    found = at("search_entries", account=account, party=party, since="2025-06-11", limit=20)
    return [entry["at"] for entry in reversed(found["entries"])]


def test_a_monthly_order_falls_on_the_last_day_of_shorter_months() -> None:
    at = desk()
    account, payee = at.find()["account"], at.payee(name=unpaid(at))
    order = {"source": account, "payee": payee.id, "amount": 1, "every": "monthly"}
    made = at("schedule_payment", **order, first="2025-08-31", until="2025-11-30")
    for day in ("2025-08-30", "2025-12-05"):
        at.wait((date.fromisoformat(day) - at.session.clock.now.date()).days)
    assert days_of(at, account, payee.name) == [
        f"{day}T00:00" for day in ("2025-08-31", "2025-09-30", "2025-10-31", "2025-11-30")
    ]
    assert at.session.server.orders[made["order"]].count == 4
    assert at.refused("cancel_order", order=made["order"])["reason"] == "order_over"


def unpaid(at: Desk) -> str:
    """The name of a payee to whom no order goes."""
    ordered = {o.payee for o in rows(at.session, "orders")}
    return next(
        str(p.name)
        for p in rows(at.session, "payees")
        if (p.customer, p.currency, p.account) == (at.customer.id, "EUR", "")
        and p.confirmed
        and p.id not in ordered
    )


def test_a_weekly_order_pays_each_week_and_stops_when_cancelled() -> None:
    at = desk()
    account, payee = at.find()["account"], at.payee(name=unpaid(at))
    order = {"source": account, "payee": payee.id, "amount": 1.5, "every": "weekly"}
    made = at("schedule_payment", **order, first="2025-06-12", reference="Club")
    at.wait(10)
    assert days_of(at, account, payee.name) == ["2025-06-12T00:00", "2025-06-19T00:00"]
    listed = at("find_orders", payee=payee.id)
    assert listed["found"] == 1
    assert listed["orders"][0]["due"] == "2025-06-26"
    assert listed["orders"][0]["reference"] == "Club"
    at("cancel_order", order=made["order"])
    at.wait(30)
    assert len(days_of(at, account, payee.name)) == 2
    assert at("find_orders", payee=payee.id) == {"found": 0, "orders": []}


def test_an_order_that_cannot_pay_is_missed_and_pays_the_next_time() -> None:
    at = desk()
    account, payee = at.find()["account"], at.payee(name=unpaid(at))
    order = {"source": account, "payee": payee.id, "amount": 2, "every": "weekly"}
    at("schedule_payment", **order, first="2025-06-11")
    at("set_freeze", account=account, frozen=True)
    at.wait(2)
    at("set_freeze", account=account, frozen=False)
    assert at("find_orders", payee=payee.id)["orders"][0]["missed"] == 1
    at.wait(7)
    assert days_of(at, account, payee.name) == ["2025-06-18T00:00"]


def test_reading_shows_what_fell_due_and_leaves_the_state() -> None:
    at = desk()
    account, payee = at.find()["account"], at.payee(name=unpaid(at))
    at("schedule_payment", source=account, payee=payee.id, amount=3, first="2025-06-11")
    at("sign_in", name=at.customer.name, phrase=at.customer.phrase)
    at.session.clock.set(15 * 60 - 5)  # 23:55
    at("sign_in", name=at.customer.name, phrase=at.customer.phrase)
    balance, before = at.find()["balance"], at.session.state_hash()
    at.session.clock.set(15 * 60 + 1)  # one minute past midnight
    assert at.find()["balance"] == pytest.approx(balance - 3)
    assert at.session.state_hash() == before
    at("sign_in", name=at.customer.name, phrase=at.customer.phrase)
    assert at.session.server.settled == "2025-06-11"


def test_savings_bear_a_twelfth_of_the_yearly_interest_on_the_first_of_a_month() -> None:
    at = desk(kind="savings")
    savings = next(
        a
        for a in rows(at.session, "accounts")
        if a.customer == at.customer.id and a.kind == "savings"
    )
    at.wait(20)
    assert at.find(savings.name)["balance"] == savings.balance / 100
    at.wait(1)
    interest = savings.balance * savings.interest // 120_000
    assert interest > 0
    assert at.find(savings.name)["balance"] == (savings.balance + interest) / 100
    paper = at("get_statement", account=savings.id, month="2025-07")
    assert (paper["interest"], paper["money_in"], paper["fees"]) == (interest / 100,) * 2 + (0.0,)


def test_a_fixed_deposit_is_free_on_the_day_it_matures() -> None:
    at = desk(kind="fixed")
    fixed = next(
        a for a in rows(at.session, "accounts") if (a.customer, a.kind) == (at.customer.id, "fixed")
    )
    everyday = at.find()["account"]
    out = {"source": fixed.id, "target": everyday, "amount": 50}
    into = {"source": everyday, "target": fixed.id, "amount": 50}
    days = (date.fromisoformat(fixed.matures) - at.session.clock.now.date()).days
    at.wait(days - 1)
    assert at.refused("move_money", **out) == {"reason": "fixed_term", "matures": fixed.matures}
    assert at.refused("move_money", **into)["reason"] == "fixed_term"
    at.wait(1)
    at("move_money", **out)


def test_a_search_gives_the_newest_entries_of_a_party_between_two_days() -> None:
    at = desk()
    account = at.find()["account"]
    every = at("search_entries", account=account, limit=20)
    assert every["found"] >= 10
    times = [entry["at"] for entry in every["entries"]]
    assert times == sorted(times, reverse=True)
    one = every["entries"][1]
    day = one["at"][:10]
    asked = {"party": one["party"].upper(), "direction": one["direction"]}
    exact = at("search_entries", account=account, **asked, since=day, until=day)
    assert exact["entries"] == [one]
    assert at("search_entries", account=account)["entries"] == every["entries"][:2]
    assert at("search_entries", account=account, until="2025-03-30")["found"] == 0


def test_statements_join_and_end_with_the_balance() -> None:
    at = desk()
    everyday = at.find()
    papers = [
        at("get_statement", account=everyday["account"], month=f"2025-{m:02d}") for m in range(3, 7)
    ]
    assert papers[0]["opening"] == 0
    for earlier, later in pairwise(papers):
        assert earlier["closing"] == later["opening"]
    assert papers[-1]["closing"] == everyday["balance"]
    for month in ("2025-02", "2025-07"):
        refused = at.refused("get_statement", account=everyday["account"], month=month)
        assert refused == {"reason": "no_statement", "first": "2025-03", "last": "2025-06"}


def test_a_session_on_a_later_day_starts_with_what_fell_due_until_then() -> None:
    session = open_session("banking", 0, "2025-07-02")
    bank = Bank.of(open_session("banking", 0))
    bank.live_until("2025-07-02")
    Desk(session, rows(session, "customers")[0])
    assert {a.id: a.balance for a in rows(session, "accounts")} == {
        key: bank.balance(key) for key in bank.accounts
    }


# -- the world and the page ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_names_are_unique_where_a_person_looks_by_them(seed: int) -> None:
    session = open_session("banking", seed)
    laws_hold(session)
    customers = [c.name for c in rows(session, "customers")]
    assert len(set(customers)) == len(customers) == 14
    for table in ("accounts", "payees"):
        named = [(r.customer, r.name.lower()) for r in rows(session, table) if r.customer]
        assert len(set(named)) == len(named)
    orders = [o.payee for o in rows(session, "orders")]
    assert len(set(orders)) == len(orders)
    kinds = Counter(str(m.kind) for m in rows(session, "movements"))
    assert set(kinds) >= {"opening", "income", "card", "payment", "order", "move", "interest"}
    assert {str(a.freeze) for a in rows(session, "accounts")} == {"no", "by customer", "by bank"}


def test_the_page_has_every_tool_and_every_refusal() -> None:
    text = PAGE.read_text(encoding="utf-8")
    tools = open_session("banking").tools
    shown = re.findall(r"^\| `(\w+)` \| (READ|WRITE) \| ([\w, ]*) \|", text, re.M)
    assert shown == [
        (name, tool.access, ", ".join(tool.spec.parameters["properties"]))
        for name, tool in tools.items()
    ]
    listed = set(re.findall(r"^\| `(\w+)` \|(?! (?:READ|WRITE) )", text, re.M))
    code = "".join(path.read_text(encoding="utf-8") for path in sorted(CODE.glob("*.py")))
    raised = set(re.findall(r'reason="(\w+)"', code)) | {"fraction_of_a_cent"}
    assert listed == raised == set(templates_of("banking").refusals)

"""The shop keeps its rules: prices against an oracle, the life of an order, coupons, returns.

The rule-based machine plays shop and model (:mod:`tests.orch_env.servers.shopping_oracle`) side by
side. A call that the model refuses must be refused for one of the model's reasons.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import warnings
from collections.abc import Iterator
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from orch_env.servers import Access, Chance, ServerSession, open_session
from orch_env.servers.domains.shopping import Shopping, pricing
from orch_env.servers.domains.shopping.cart import MAX_LINES
from orch_env.servers.domains.shopping.parcels import status_of
from orch_env.servers.domains.shopping.pricing import Item
from orch_env.servers.domains.shopping.records import Coupon, Order, OrderLine, Rate
from orch_env.servers.domains.shopping.wishes import MAX_WISHES
from tests.orch_env.servers.shopping_oracle import Model, money
from tools.server_tasks.chains import run_chain, templates_of

ROOT = Path(__file__).resolve().parents[3]
METHODS = ("standard", "express", "parcel_shop")


@pytest.fixture(autouse=True)
def _a_bug_in_the_server_fails_the_test() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*the model got a tool_error.*")
        yield


def shop_of(session: ServerSession) -> Shopping:
    assert isinstance(session.server, Shopping)
    return session.server


def good(session: ServerSession, tool: str, **arguments: Any) -> dict[str, Any]:
    result = session.call(tool, arguments)
    assert result.error is None, result.text
    return dict(json.loads(result.text))


def reason(session: ServerSession, tool: str, **arguments: Any) -> str:
    before = session.state_hash()
    result = session.call(tool, arguments)
    assert result.error is not None, result.text
    assert session.state_hash() == before
    return str(json.loads(result.text)["error"]["details"]["reason"])


def wait(session: ServerSession, **span: float) -> None:
    session.clock.set(session.clock.calls + int(timedelta(**span).total_seconds() // 60))


# -- shop and model side by side ---------------------------------------------------------------

NUMBERS = st.sampled_from(range(2520))


class ShopAndModel(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 19))
    def open(self, seed: int) -> None:
        self.session = open_session("shopping", seed)
        self.shop = shop_of(self.session)
        self.model = Model(self.session)
        model = self.model
        covered = {c for k in model.coupons.values() for c in k.categories}
        few = [v for v, n in model.stock.items() if n <= 2][:2]
        some = [
            v.id
            for v in model.variants.values()
            if model.products[v.product].category in covered and v.stock > 2
        ][:6]
        self.pool = [*model.cart, *few, *some, *sorted(model.wishes)[:2]]

    def choose(self, number: int, options: Any) -> Any:
        options = list(options)
        return options[number % len(options)]

    def play(self, allowed: set[str], tool: str, **arguments: Any) -> dict[str, Any] | None:
        """Call a tool; the model's reasons say whether it must fail, and with which reason."""
        if allowed:
            found = reason(self.session, tool, **arguments)
            assert found in allowed, (tool, arguments, found, allowed)
            return None
        before = self.session.state_hash()
        answer = good(self.session, tool, **arguments)
        reads = self.session.tools[tool].access is Access.READ
        assert not reads or self.session.state_hash() == before
        assert list(self.shop.invariants()) == []
        return answer

    @rule(number=NUMBERS, quantity=st.integers(1, 6))
    def add(self, number: int, quantity: int) -> None:
        variant = self.choose(number, self.pool)
        whole = self.model.cart.get(variant, 0) + quantity
        allowed = self.model.may_hold(variant, whole)
        if self.play(allowed, "add_to_cart", variant=variant, quantity=quantity):
            self.model.cart[variant] = whole

    @rule(number=NUMBERS, quantity=st.integers(0, 6))
    def change(self, number: int, quantity: int) -> None:
        variant = self.choose(number, [*self.model.cart, *self.pool])
        allowed = self.model.may_hold(variant, quantity)
        if variant not in self.model.cart:
            allowed = {"not_in_cart"}
        if self.play(allowed, "set_quantity", variant=variant, quantity=quantity):
            self.model.cart[variant] = quantity
            if not quantity:
                del self.model.cart[variant]

    @rule(number=NUMBERS)
    def apply(self, number: int) -> None:
        code = self.choose(number, sorted(self.model.coupons, key=self.model.codes.__contains__))
        if self.play(self.model.may_apply(code), "apply_coupon", code=code.lower()):
            self.model.codes.add(code)

    @rule(number=NUMBERS)
    def take_off(self, number: int) -> None:
        code = self.choose(number, sorted(self.model.codes) or self.model.coupons)
        allowed = set() if code in self.model.codes else {"coupon_not_applied"}
        if self.play(allowed, "remove_coupon", code=code):
            self.model.codes.discard(code)

    @rule(address=NUMBERS, method=st.sampled_from(METHODS))
    def ask_the_price(self, address: int, method: str) -> None:
        where = self.choose(address, self.model.regions)
        allowed = self.model.may_send(where, method)
        shown = self.play(allowed, "show_cart", address=where, shipping=method)
        if shown is None:
            return
        problems = {c["code"]: c["problem"] for c in shown["coupons"]}
        valid = [code for code in self.model.codes if not self.model.may_order_with(code)]
        assert {code for code, problem in problems.items() if problem is None} == set(valid)
        bill = self.model.bill(where, method, valid)
        assert {row["variant"]: row["quantity"] for row in shown["lines"]} == self.model.cart
        assert {c["code"]: c["discount"] for c in shown["coupons"]} == {
            code: money(bill.off.get(code, 0)) for code in problems
        }
        for row in shown["lines"]:
            line = bill.lines[row["variant"]]
            assert (row["price"], row["value"]) == (
                money(line.price),
                money(line.price * line.quantity),
            )
        value = sum(line.price * line.quantity for line in bill.lines.values())
        assert [shown[k] for k in ("value", "discount", "goods", "shipping", "tax", "total")] == [
            money(n)
            for n in (
                value,
                value - bill.goods,
                bill.goods,
                bill.shipping,
                bill.tax,
                bill.total,
            )
        ]

    @rule(address=NUMBERS)
    def ask_for_ways(self, address: int) -> None:
        where = self.choose(address, self.model.regions)
        allowed = set() if self.model.cart else {"cart_empty"}
        shown = self.play(allowed, "shipping_options", address=where)
        if shown is None:
            return
        valid = [code for code in self.model.codes if not self.model.may_order_with(code)]
        ways = {row["shipping"]: row for row in shown["options"]}
        region = self.model.regions[where]
        assert set(ways) == {m for r, m in self.model.rates if r == region}
        for method, row in ways.items():
            assert row["cost"] == money(self.model.bill(where, method, valid).shipping)
            heavy = self.model.may_send(where, method) == {"too_heavy"}
            assert row["too_heavy"] == heavy

    @rule(address=NUMBERS, method=st.sampled_from(METHODS), payment=NUMBERS)
    def order(self, address: int, method: str, payment: int) -> None:
        where = self.choose(address, self.model.regions)
        pays = self.choose(payment, self.model.payments)
        allowed = self.model.may_place(where, method, pays)
        placed_at = self.model.now
        made = self.play(allowed, "check_out", address=where, shipping=method, payment=pays)
        if made is not None:
            end = self.model.now
            self.session.clock.set(self.session.clock.calls - 1)
            assert self.model.now == placed_at
            bill = self.model.place(made["order"], where, method, pays)
            assert made["total"] == money(bill.total)
            assert made["arrives_on"] == self.model.orders[made["order"]].arrives().isoformat()
            self.session.clock.set(self.session.clock.calls + 1)
            assert self.model.now == end
            self.pool = [*self.pool[2:], *bill.lines][-12:]

    @rule(number=NUMBERS)
    def cancel(self, number: int) -> None:
        order = self.choose(number, self.newest_first())
        made = self.play(self.model.may_cancel(order), "call_off_order", order=order)
        if made is not None:
            assert made["refund"] == money(self.model.cancel(order))

    @rule(
        number=NUMBERS,
        line=NUMBERS,
        quantity=st.integers(1, 3),
        why=st.sampled_from(("changed_mind", "damaged", "wrong_item")),
    )
    def send_back(self, number: int, line: int, quantity: int, why: str) -> None:
        order = self.choose(number, sorted(self.model.orders))
        variant = self.choose(line, [*self.model.orders[order].lines, self.pool[0]])
        made = self.play(
            self.model.may_return(order, variant, quantity),
            "return_items",
            order=order,
            variant=variant,
            quantity=quantity,
            reason=why,
        )
        if made is not None:
            refund = self.model.send_back(order, variant, quantity, why)
            assert made["refund"] == money(refund)

    @rule(number=NUMBERS, stars=st.integers(1, 5))
    def review(self, number: int, stars: int) -> None:
        variant = self.choose(number, [v for o in self.model.orders.values() for v in o.lines])
        product = self.model.variants[variant].product
        allowed = self.model.may_review(product)
        words = {"stars": stars, "title": "So", "text": "As I say."}
        if self.play(allowed, "write_review", product=product, **words):
            self.model.reviewed.add(product)

    @rule(number=NUMBERS)
    def wish(self, number: int) -> None:
        variant = self.choose(number, self.pool)
        allowed = {"already_on_list"} if variant in self.model.wishes else set()
        made = self.play(allowed, "add_to_wish_list", variant=variant)
        if made is not None:
            self.model.wishes.add(variant)
            assert made["price"] == money(self.model.price(variant))

    @rule(number=NUMBERS)
    def forget(self, number: int) -> None:
        variant = self.choose(number, self.pool)
        allowed = set() if variant in self.model.wishes else {"not_on_list"}
        if self.play(allowed, "remove_from_wish_list", variant=variant):
            self.model.wishes.discard(variant)

    @rule(hours=st.sampled_from((1, 5, 9, 24, 24 * 4, 24 * 12)))
    def let_time_pass(self, hours: int) -> None:
        before = self.session.state_hash()
        wait(self.session, hours=hours)
        assert self.session.state_hash() == before

    def newest_first(self) -> list[str]:
        orders = self.model.orders
        return sorted(orders, key=lambda order: (orders[order].placed, order), reverse=True)

    @invariant()
    def shop_and_model_agree(self) -> None:
        if not hasattr(self, "model"):
            return
        model, shop = self.model, self.shop
        assert {v.id: v.stock for v in shop.variants.values()} == model.stock
        assert {line.variant: line.quantity for line in shop.cart.values()} == model.cart
        assert set(shop.cart_coupons) == model.codes
        assert set(shop.wishes) == model.wishes
        assert {p: shop.payments[p].balance for p in model.gifts} == model.gifts
        assert {k: status_of(o, shop.now) for k, o in shop.orders.items()} == {
            k: o.status(model.now) for k, o in model.orders.items()
        }


TestShopAndModel = ShopAndModel.TestCase
TestShopAndModel.settings = settings(max_examples=90, stateful_step_count=40)


@given(
    seed=st.integers(0, 19),
    goods=st.lists(st.tuples(NUMBERS, st.integers(1, 4)), max_size=4),
    first_off=st.booleans(),
    coupons=st.lists(NUMBERS, max_size=4),
    where=NUMBERS,
    method=st.sampled_from(METHODS),
    hours=st.sampled_from((2, 8, 30, 200, 800, 900)),
    back=st.lists(
        st.tuples(NUMBERS, st.integers(1, 3), st.sampled_from(("changed_mind", "damaged"))),
        max_size=4,
    ),
)
def test_a_whole_purchase_goes_as_the_model_says(
    seed: int,
    goods: list[tuple[int, int]],
    first_off: bool,
    coupons: list[int],
    where: int,
    method: str,
    hours: int,
    back: list[tuple[int, int, str]],
) -> None:
    both: Any = ShopAndModel()
    both.open(seed)
    for number, quantity in goods:
        both.add(number, quantity)
    if first_off:
        both.take_off(0)
    for number in coupons:
        both.apply(number)
    both.ask_for_ways(where)
    both.ask_the_price(where, method)
    payments = both.model.payments
    [card] = [
        n for n, p in enumerate(payments.values()) if p.limit > 60_000 and p.expires >= "2026"
    ]
    both.order(where, method, card)
    both.shop_and_model_agree()
    both.let_time_pass(hours)
    if hours < 24:
        both.cancel(0)
    order = both.newest_first()[0]
    for number, quantity, why in back:
        both.send_back(sorted(both.model.orders).index(order), number, quantity, why)
    both.shop_and_model_agree()


@pytest.mark.long
def test_shop_and_model_agree_on_many_new_paths() -> None:
    run_state_machine_as_test(
        ShopAndModel, settings=settings(max_examples=1000, stateful_step_count=60)
    )


# -- prices by hand ----------------------------------------------------------------------------

FRANCE = Rate("standard-France", "France", "standard", 490, 80, 30_000, 3, 5000)


def coupon(percent: int = 0, amount: int = 0, **more: Any) -> Coupon:
    conditions: dict[str, Any] = {
        "minimum": 0,
        "categories": (),
        "covers_offers": True,
        "combines": True,
        "first": "2025-01-01",
        "last": "2025-12-31",
    }
    return Coupon(f"C{percent}-{amount}", percent, amount, **conditions | more)


def item(price: int, quantity: int = 1, category: str = "Toys", **more: Any) -> Item:
    return Item("SK-1", category, quantity, price, more.get("offer", False), more.get("grams", 100))


def test_a_percentage_is_taken_before_a_fixed_amount() -> None:
    ten, five = coupon(percent=10), coupon(amount=500)
    for coupons in ([ten, five], [five, ten]):
        off = dict(
            zip(
                (c.percent for c in coupons),
                pricing.discounts([item(10_000)], coupons),
                strict=True,
            )
        )
        assert off == {10: [1000], 0: [500]}  # the other way round 10% of 95.00 would go


def test_a_fixed_amount_is_shared_by_value_and_odd_cents_go_to_the_first_lines() -> None:
    ten = coupon(amount=1000)
    assert pricing.discounts([item(5000)] * 3, [ten]) == [[334, 333, 333]]
    assert pricing.discounts([item(1000), item(3000)], [ten]) == [[250, 750]]
    assert pricing.discounts([item(300), item(200)], [ten]) == [[300, 200]]
    # exactly 142.857.., 285.714.., 571.428..: the lines that lost most get the cents
    assert pricing.discounts([item(1000), item(2000), item(4000)], [ten]) == [[143, 286, 571]]


def test_a_coupon_leaves_out_other_categories_and_goods_on_offer() -> None:
    goods = [item(1000), item(1000, category="Books"), item(1000, offer=True)]
    assert pricing.discounts(goods, [coupon(percent=20, categories=("Toys",))]) == [[200, 0, 200]]
    assert pricing.discounts(goods, [coupon(percent=20, covers_offers=False)]) == [[200, 200, 0]]
    assert pricing.discounts(goods[2:], [coupon(amount=50, covers_offers=False)]) == [[0]]


@given(
    st.lists(st.integers(1, 50_000), min_size=1, max_size=8),
    st.integers(1, 100_000),
    st.sampled_from((0, 10, 15, 30)),
)
def test_a_fixed_amount_is_taken_to_the_cent_and_every_share_is_fair(
    prices: list[int], amount: int, percent: int
) -> None:
    goods = [item(price) for price in prices]
    coupons = [coupon(amount=amount), *([coupon(percent=percent)] if percent else [])]
    fixed, *rest = pricing.discounts(goods, coupons)
    left = [price - (rest[0][n] if rest else 0) for n, price in enumerate(prices)]
    assert sum(fixed) == min(amount, sum(left))
    for share, value in zip(fixed, left, strict=True):
        assert 0 <= share <= value
        assert abs(share - Fraction(sum(fixed) * value, sum(left))) < 1


@pytest.mark.parametrize(
    ("value", "cost"), [(4999, 490), (5000, 0), (5001, 0)], ids=["below", "at", "above"]
)
def test_shipping_is_free_from_a_value_of_goods_after_coupons(value: int, cost: int) -> None:
    assert pricing.quote([item(value)], [], FRANCE).shipping == cost
    assert pricing.quote([item(value + 100)], [coupon(amount=100)], FRANCE).shipping == cost


@pytest.mark.parametrize(
    ("grams", "cost"), [(1, 490), (2000, 490), (2001, 570), (3000, 570), (3001, 650)]
)
def test_each_kilogram_begun_after_two_costs_more(grams: int, cost: int) -> None:
    assert pricing.quote([item(100, grams=grams)], [], FRANCE).shipping == cost
    never_free = Rate("e", "France", "express", 490, 80, 30_000, 1, None)
    dear = [item(9_000_00, grams=grams)]
    assert pricing.quote(dear, [], never_free).shipping == cost


@pytest.mark.parametrize(
    ("region", "category", "percent"),
    [
        ("France", "Books", "5.5"),
        ("France", "Pantry", "5.5"),
        ("France", "Toys", "20"),
        ("Germany", "Books", "7"),
        ("Denmark", "Books", "25"),
        ("Ireland", "Pantry", "0"),
        ("Ireland", "Kitchen", "23"),
        ("Switzerland", "Toys", "0"),
        ("Switzerland", None, "0"),
        ("Belgium", None, "21"),
    ],
)
def test_tax_follows_region_and_category(region: str, category: str | None, percent: str) -> None:
    assert pricing.tax_rate(region, category) == Fraction(percent) * 100


def test_tax_is_rounded_half_up_for_each_line() -> None:
    books = [item(10, category="Books"), item(10, category="Books")]  # 0.55 cents each
    assert [line.tax for line in pricing.quote(books, [], FRANCE).lines] == [1, 1]
    toys = [item(2), item(3)]  # 0.4 and 0.6 cents
    assert [line.tax for line in pricing.quote(toys, [], FRANCE).lines] == [0, 1]


@given(
    st.integers(1, 20_000),
    st.lists(st.integers(1, 4), min_size=1, max_size=5),
    st.integers(0, 5000),
    st.integers(0, 500),
)
def test_returns_in_parts_pay_back_what_was_paid_to_the_cent(
    price: int, parts: list[int], tax: int, off: int
) -> None:
    line = OrderLine("SK-1", sum(parts), price, min(off, price), tax)
    before, refunds = 0, []
    for part in parts:
        refunds.append(pricing.refund(line, before, part, fee=0))
        before += part
    assert sum(refunds) == pricing.paid(line)
    for part, refund in zip(parts, refunds, strict=True):
        assert abs(refund - Fraction(pricing.paid(line) * part, line.quantity)) <= 1


def test_whoever_changed_their_mind_pays_for_the_parcel_and_never_more_than_the_refund() -> None:
    line = OrderLine("SK-1", 2, 1000, 0, 200)
    assert pricing.refund(line, 0, 1, fee=pricing.RETURN_FEE) == 1100 - 495
    assert pricing.refund(OrderLine("SK-1", 1, 300, 0, 0), 0, 1, fee=pricing.RETURN_FEE) == 0


# -- the life of an order ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("placed", "days", "packed", "arrives"),
    [
        ("2025-05-14T09:00", 3, "2025-05-14", "2025-05-19"),  # Wednesday; over a weekend
        ("2025-05-14T13:59", 1, "2025-05-14", "2025-05-15"),
        ("2025-05-14T14:00", 1, "2025-05-15", "2025-05-16"),
        ("2025-05-16T13:59", 1, "2025-05-16", "2025-05-19"),  # Friday
        ("2025-05-16T14:00", 1, "2025-05-19", "2025-05-20"),
        ("2025-05-17T08:00", 5, "2025-05-19", "2025-05-26"),  # Saturday
        ("2025-05-18T23:59", 4, "2025-05-19", "2025-05-23"),  # Sunday
    ],
)
def test_an_order_is_packed_shipped_and_delivered_on_working_days(
    placed: str, days: int, packed: str, arrives: str
) -> None:
    order = Order("OR-1", (), (), "", "", "standard", days, 0, 0, placed, False)
    for status, moment in (
        ("placed", placed),
        ("placed", f"{packed}T15:59"),
        ("packed", f"{packed}T16:00"),
        ("packed", f"{packed}T17:59"),
        ("shipped", f"{packed}T18:00"),
        ("shipped", f"{arrives}T11:59"),
        ("delivered", f"{arrives}T12:00"),
        ("delivered", "2031-01-01T00:00"),
    ):
        assert status_of(order, datetime.fromisoformat(moment)) == status


def to_home(session: ServerSession, payment: str = "") -> dict[str, Any]:
    """Order the cart to the first address, paid with what pays most."""
    shop = shop_of(session)
    usable = [p for p in shop.payments.values() if p.expires >= "2026" and p.limit]
    return good(
        session,
        "check_out",
        address=next(iter(shop.addresses)),
        shipping="standard",
        payment=payment or max(usable, key=lambda p: p.limit).id,
    )


def test_checkout_reserves_stock_empties_the_cart_and_a_cancelled_order_gives_all_back() -> None:
    session = open_session("shopping", 2)
    shop = shop_of(session)
    [gift] = [p.id for p in shop.payments.values() if p.kind == "gift_card"]
    balance = shop.payments[gift].balance
    for variant in list(shop.cart):
        good(session, "set_quantity", variant=variant, quantity=0)
    full = [v for v in shop.variants.values() if v.stock and shop.price(v) == v.list_price]
    cheap = min(full, key=lambda v: v.list_price)
    good(session, "add_to_cart", variant=cheap.id)
    [code] = shop.cart_coupons
    made = to_home(session, gift)
    assert shop.variants[cheap.id].stock == cheap.stock - 1
    assert not shop.cart
    assert not shop.cart_coupons
    assert money(balance - shop.payments[gift].balance) == made["total"]
    assert reason(session, "apply_coupon", code=code) == "coupon_used"
    assert good(session, "call_off_order", order=made["order"])["refund"] == made["total"]
    assert (shop.variants[cheap.id].stock, shop.payments[gift].balance) == (cheap.stock, balance)
    assert reason(session, "apply_coupon", code=code) == "coupon_covers_nothing"
    assert reason(session, "call_off_order", order=made["order"]) == "already_cancelled"


def test_an_order_can_be_cancelled_until_it_ships_and_sent_back_for_thirty_days() -> None:
    session = open_session("shopping", 1)
    shop = shop_of(session)
    line = next(
        c for c in shop.cart.values() if shop.products[shop.variants[c.variant].product].returnable
    )
    made = to_home(session)  # on a Wednesday morning
    send_back = {
        "order": made["order"],
        "variant": line.variant,
        "quantity": 1,
        "reason": "damaged",
    }
    assert reason(session, "return_items", **send_back) == "not_delivered"
    session.clock.set(9 * 60 - 1)  # 17:59
    early = session.fork()
    assert good(early, "call_off_order", order=made["order"])["status"] == "cancelled"
    session.clock.set(9 * 60)
    assert reason(session, "call_off_order", order=made["order"]) == "already_shipped"
    shown = good(session, "show_order", order=made["order"])
    arrives = datetime.fromisoformat(shown["arrives_on"]) + timedelta(hours=12)
    assert shown["return_until"] == (arrives + timedelta(days=30)).date().isoformat()
    for moment, late in (
        (arrives, False),
        (arrives + timedelta(days=30, hours=11), False),
        (arrives + timedelta(days=30, hours=12), True),
    ):
        twin = session.fork()
        wait(twin, minutes=(moment - twin.clock.now).total_seconds() // 60)
        stock = shop_of(twin).variants[line.variant].stock
        if late:
            assert reason(twin, "return_items", **send_back) == "window_closed"
        else:
            back = good(twin, "return_items", **send_back)
            after = good(twin, "show_order", order=made["order"])
            assert after["refunded"] == back["refund"]
            assert [n["returned"] for n in after["lines"] if n["variant"] == line.variant] == [1]
            assert shop_of(twin).variants[line.variant].stock == stock  # it was damaged


def test_a_coupon_is_valid_on_its_first_and_last_day_and_for_one_order() -> None:
    shop = shop_of(open_session("shopping"))
    lasting = {c.code: c for c in shop.coupons.values() if c.amount and not c.minimum}
    [code] = lasting
    first, last = (datetime.fromisoformat(d) for d in (lasting[code].first, lasting[code].last))
    for day, refused in (
        (first - timedelta(days=1), "coupon_not_yet_valid"),
        (first, None),
        (last, None),
        (last + timedelta(days=1), "coupon_expired"),
    ):
        session = open_session("shopping", today=day.date().isoformat())
        good(session, "remove_coupon", code=next(iter(shop.cart_coupons)))
        if refused:
            assert reason(session, "apply_coupon", code=code) == refused
        else:
            assert (
                good(session, "apply_coupon", code=code)["discount"] == lasting[code].amount / 100
            )


def test_an_offer_lowers_the_price_on_its_first_and_last_day() -> None:
    shop = shop_of(open_session("shopping"))
    product = next(p for p in shop.products.values() if shop.offer(p))
    offer = shop.offer(product)
    assert offer is not None
    full = shop.variants[product.variants[0]].list_price
    less = math.floor(Fraction(full * (100 - offer.percent), 100) * 2 + 1) // 2
    first, last = datetime.fromisoformat(offer.first), datetime.fromisoformat(offer.last)
    for day, lower in (
        (first - timedelta(days=1), False),
        (first, True),
        (last, True),
        (last + timedelta(days=1), False),
    ):
        session = open_session("shopping", today=day.date().isoformat())
        shown = good(session, "list_variants", product=product.id)["variants"][0]["price"]
        assert abs(shown * 100 - (less if lower else full)) <= (0.51 if lower else 1e-6)
        found = good(session, "find_product", name=product.name)
        expected = {"percent_off": offer.percent, "until": offer.last} if lower else None
        assert found["offer"] == expected
        assert found["on_offer"] == lower


def test_a_cart_whose_coupon_no_longer_fits_is_shown_with_the_problem_and_not_ordered() -> None:
    session = open_session("shopping")
    shop = shop_of(session)
    [old] = shop.cart_coupons
    good(session, "remove_coupon", code=old)
    big = next(c for c in shop.coupons.values() if c.amount and not c.combines)
    assert (
        good(session, "apply_coupon", code=f" {big.code.lower()} ")["discount"] == big.amount / 100
    )
    first, second = shop.cart
    good(session, "set_quantity", variant=first, quantity=0)
    [shown] = good(session, "show_cart")["coupons"]
    assert shown["discount"] == 0
    assert "needs goods for" in shown["problem"]
    with pytest.raises(AssertionError, match="coupon_minimum"):
        to_home(session)
    assert second in shop.cart


def test_only_so_many_wishes_cart_lines_and_pieces_fit() -> None:
    session = open_session("shopping")
    shop = shop_of(session)
    free = [v.id for v in shop.variants.values() if v.stock and v.id not in shop.wishes]
    room = MAX_WISHES - len(shop.wishes)
    for variant in free[:room]:
        good(session, "add_to_wish_list", variant=variant)
    assert reason(session, "add_to_wish_list", variant=free[room]) == "wish_list_full"
    assert reason(session, "add_to_wish_list", variant=free[0]) == "already_on_list"
    assert len(good(session, "show_wish_list")["wishes"]) == MAX_WISHES == 50
    other = [v for v in free if v not in shop.cart]
    room = MAX_LINES - len(shop.cart)
    for variant in other[:room]:
        good(session, "add_to_cart", variant=variant)
    assert reason(session, "add_to_cart", variant=other[room]) == "cart_full"
    assert len(good(session, "show_cart")["lines"]) == MAX_LINES == 30
    more = next(v for v in other[:room] if shop.variants[v].stock > 2)
    good(session, "set_quantity", variant=more, quantity=2)


# -- look-ups against a plain second look ------------------------------------------------------

SEARCHES = st.fixed_dictionaries(
    {},
    optional={
        "text": st.sampled_from(("", "lamp", "kettle tea", "Fennholt", "the", "o")),
        "category": st.sampled_from(("Books", "Kitchen", "Toys", "Clothing")),
        "brand": st.sampled_from(("fennholt", "Oskarby", "Harwick Lane", "nobody")),
        "max_price": st.sampled_from((0, 9.99, 25, 60.5, 1000)),
        "in_stock": st.booleans(),
        "on_offer": st.booleans(),
        "sort": st.sampled_from(("name", "price", "stars")),
        "limit": st.integers(1, 40),
    },
)


@given(SEARCHES, st.integers(0, 3))
def test_a_search_finds_what_a_plain_look_through_the_shop_finds(
    wanted: dict[str, Any], seed: int
) -> None:
    session = open_session("shopping", seed)
    shop, model = shop_of(session), Model(session)
    rows = []
    for product in model.products.values():
        prices = [model.price(v) for v in product.variants]
        stars = [r.stars for r in shop.reviews.values() if r.product == product.id]
        mean = math.floor(Fraction(sum(stars) * 10, len(stars)) + Fraction(1, 2)) if stars else None
        keep = (
            set(wanted.get("text", "").lower().split())
            <= {
                part
                for part in wanted.get("text", "").lower().split()
                if part in product.name.lower()
            }
            and wanted.get("category", product.category) == product.category
            and wanted.get("brand", product.brand).lower() == product.brand.lower()
            and min(prices) <= round(100 * wanted.get("max_price", 10_000))
            and (not wanted.get("in_stock") or sum(model.stock[v] for v in product.variants) > 0)
            and (not wanted.get("on_offer") or model.offer(product.variants[0]) > 0)
        )
        if keep:
            rows.append((product, min(prices), mean))
    order: dict[str, Any] = {
        "name": lambda row: row[0].name,
        "price": lambda row: (row[1], row[0].name),
        "stars": lambda row: (-(row[2] or 0), row[0].name),
    }
    rows.sort(key=order[wanted.get("sort", "name")])
    found = good(session, "search_products", **wanted)
    assert found["found"] == len(rows)
    assert found["products"] == [
        {
            "product": product.id,
            "name": product.name,
            "brand": product.brand,
            "category": product.category,
            "price_from": money(price),
            "stars": None if mean is None else mean / 10,
            "on_offer": model.offer(product.variants[0]) > 0,
        }
        for product, price, mean in rows[: wanted.get("limit", 10)]
    ]


def test_a_comparison_names_the_cheapest_the_best_rated_and_the_lightest() -> None:
    session = open_session("shopping", 5)
    shop, model = shop_of(session), Model(session)
    rows = good(session, "search_products", limit=40)["products"]
    for n in range(0, 36, 4):
        some = rows[n : n + 4]
        shown = good(session, "compare_products", products=[row["product"] for row in some])
        assert [{k: row[k] for k in some[0]} for row in shown["products"]] == some
        for row in shown["products"]:
            product = model.products[row["product"]]
            assert row["weight_g"] == product.weight_g
            assert row["returnable"] == product.returnable
            assert row["pieces_in_stock"] == sum(model.stock[v] for v in product.variants)
        by_id = {row["product"]: row for row in shown["products"]}
        assert by_id[shown["cheapest"]]["price_from"] == min(r["price_from"] for r in some)
        assert by_id[shown["best_rated"]]["stars"] == max(r["stars"] or 0 for r in some)
        assert by_id[shown["lightest"]]["weight_g"] == min(r["weight_g"] for r in by_id.values())
    unrated = [p for p in shop.products if p not in shop.stars()][:2]
    assert good(session, "compare_products", products=unrated)["best_rated"] is None


def test_reviews_come_newest_first_and_can_be_picked_by_stars() -> None:
    session = open_session("shopping")
    shop = shop_of(session)
    mine = next(r for r in shop.reviews.values() if r.mine)
    product = shop.products[mine.product]
    given_ = sorted(
        (r for r in shop.reviews.values() if r.product == product.id),
        key=lambda r: r.written_at,
        reverse=True,
    )
    shown = good(session, "read_reviews", product=product.id, limit=20)
    assert [row["review"] for row in shown["reviews"]] == [r.id for r in given_]
    assert (shown["product"], shown["found"]) == (product.name, len(given_))
    only = good(session, "read_reviews", product=product.id, stars=mine.stars, limit=1)
    assert only["found"] == sum(r.stars == mine.stars for r in given_)
    assert [row["stars"] for row in only["reviews"]] == [mine.stars]
    [own] = [row for row in shown["reviews"] if row["author"] == "you"]
    assert own == {
        "review": mine.id,
        "author": "you",
        "stars": mine.stars,
        "title": mine.title,
        "text": mine.text,
        "written_on": mine.written_at[:10],
    }


def test_a_review_moves_the_mean_and_is_the_newest() -> None:
    session = open_session("shopping")
    shop = shop_of(session)
    mine = {r.product for r in shop.reviews.values() if r.mine}
    product = next(
        product
        for order in shop.orders.values()
        if status_of(order, shop.now) == "delivered"
        for line in order.lines
        if (product := shop.variants[line.variant].product) not in mine
    )
    stars = [r.stars for r in shop.reviews.values() if r.product == product] + [1]
    made = good(session, "write_review", product=product, stars=1, title="No", text="It broke.")
    mean = math.floor(Fraction(10 * sum(stars), len(stars)) + Fraction(1, 2)) / 10
    assert made["product_stars"] == mean
    shown = good(session, "read_reviews", product=product, limit=1)
    assert shown["stars"] == mean
    assert shown["reviews"][0]["review"] == made["review"]
    assert shown["reviews"][0]["written_on"] == Shopping.epoch


ORDER_FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "product": st.sampled_from(("a", "Fennholt", "OSKARBY", "no such thing")),
        "status": st.sampled_from(("placed", "packed", "shipped", "delivered", "cancelled")),
        "placed_from": st.sampled_from(("2025-01-15", "2025-04-20", "2025-05-13")),
        "placed_to": st.sampled_from(("2025-03-10", "2025-05-11", "2025-05-13")),
        "limit": st.integers(1, 30),
    },
)


@given(ORDER_FILTERS, st.integers(0, 3))
def test_orders_are_found_by_product_status_and_date(wanted: dict[str, Any], seed: int) -> None:
    session = open_session("shopping", seed)
    model = Model(session)

    def name(variant: str) -> str:
        held = model.variants[variant]
        parts = (model.products[held.product].name, held.colour, held.size)
        return ", ".join(part for part in parts if part)

    expected = [
        {
            "order": key,
            "placed_on": order.placed.date().isoformat(),
            "status": order.status(model.now),
            "products": [name(variant) for variant in order.lines],
            "total": money(order.whole),
        }
        for key, order in sorted(
            model.orders.items(), key=lambda pair: (pair[1].placed, pair[0]), reverse=True
        )
        if any(wanted.get("product", "").lower() in name(v).lower() for v in order.lines)
        and wanted.get("status", order.status(model.now)) == order.status(model.now)
        and wanted.get("placed_from", "") <= order.placed.date().isoformat()
        and order.placed.date().isoformat() <= wanted.get("placed_to", "9999")
    ]
    found = good(session, "find_orders", **wanted)
    assert found["found"] == len(expected)
    assert found["orders"] == expected[: wanted.get("limit", 10)]


@pytest.mark.parametrize("seed", range(3))
def test_an_order_is_shown_with_what_was_paid_and_what_came_back(seed: int) -> None:
    session = open_session("shopping", seed)
    shop, model = shop_of(session), Model(session)
    for key, order in model.orders.items():
        shown = good(session, "show_order", order=key)
        held = shop.orders[key]
        back = [r for r in shop.returns.values() if r.order == key]
        assert shown == {
            "order": key,
            "status": order.status(model.now),
            "placed_at": held.placed_at,
            "arrives_on": order.arrives().isoformat()
            if not order.cancelled
            else shown["arrives_on"],
            "return_until": shown["return_until"],
            "address": shop.addresses[held.address].label,
            "payment": shop.payments[held.payment].label,
            "shipping_by": held.method,
            "lines": [
                {
                    "variant": variant,
                    "name": shop.full_name(shop.variants[variant]),
                    "quantity": line.quantity,
                    "price": money(line.price),
                    "discount": money(line.discount),
                    "paid": money(line.whole),
                    "returned": order.back.get(variant, 0),
                }
                for variant, line in order.lines.items()
            ],
            "coupons": list(held.coupons),
            "shipping": money(held.shipping),
            "tax": money(sum(line.tax for line in order.lines.values()) + held.shipping_tax),
            "total": money(order.whole),
            "refunded": money(sum(r.refund for r in back)),
        }


def test_variants_wishes_addresses_and_payments_can_be_picked_by_name() -> None:
    session = open_session("shopping")
    shop = shop_of(session)
    for variant in list(shop.variants.values())[:60]:
        wanted = {"colour": variant.colour.upper(), "size": f" {variant.size} "}
        given_ = {k: v for k, v in wanted.items() if v.strip()}
        found = good(session, "list_variants", product=variant.product, **given_)
        assert found["variants"] == [
            {
                "variant": variant.id,
                "colour": variant.colour or None,
                "size": variant.size or None,
                "price": money(shop.price(variant)),
                "stock": variant.stock,
            }
        ]
    for wish in shop.wishes.values():
        name = shop.full_name(shop.variants[wish.variant])
        now = shop.price(shop.variants[wish.variant])
        [row] = good(session, "show_wish_list", product=name.upper())["wishes"]
        assert (row["variant"], row["name"], row["price_then"], row["price_now"]) == (
            wish.variant,
            name,
            money(wish.price_then),
            money(now),
        )
        cheaper = good(session, "show_wish_list", product=name, only_cheaper=True)["wishes"]
        assert cheaper == ([row] if now < wish.price_then else [])
    for address in shop.addresses.values():
        [row] = good(session, "list_addresses", label=address.label.upper())["addresses"]
        assert row["address"] == address.id
    for payment in shop.payments.values():
        [row] = good(session, "list_payments", label=payment.label)["payments"]
        card, gift = payment.kind == "card", payment.kind == "gift_card"
        assert row == {
            "payment": payment.id,
            "label": payment.label,
            "kind": payment.kind,
            "expires": payment.expires if card else None,
            "limit": None if gift else money(payment.limit),
            "balance": money(payment.balance) if gift else None,
        }
    assert reason(session, "list_payments", label="a bag of gold") == "unknown_label"


def test_a_new_address_is_kept_as_it_was_given() -> None:
    session = open_session("shopping")
    given_ = {
        "label": "barn",
        "recipient": "Ada Berg",
        "street": "Mill Lane 2",
        "postcode": "8010",
        "town": "Graz",
        "region": "Austria",
    }
    made = good(session, "add_address", **given_)
    [row] = good(session, "list_addresses", label="BARN")["addresses"]
    assert row == {"address": made["address"], **given_}
    assert reason(session, "add_address", **{**given_, "label": " Barn "}) == "label_taken"


# -- worlds ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_a_question_about_a_world_has_one_answer(seed: int) -> None:
    shop = shop_of(open_session("shopping", seed))
    names = [product.name.casefold() for product in shop.products.values()]
    assert len(set(names)) == len(names) >= 80
    assert not [(a, b) for a in names for b in names if a != b and a in b]
    for product in shop.products.values():
        kinds = [(shop.variants[v].colour, shop.variants[v].size) for v in product.variants]
        assert len(set(kinds)) == len(kinds)
    ordered = [shop.variants[x.variant].product for o in shop.orders.values() for x in o.lines]
    assert len(set(ordered)) == len(ordered)
    for table in (shop.addresses, shop.payments):
        labels = [held.label for held in table.values()]
        assert len(set(labels)) == len(labels)
    states = [status_of(order, shop.now) for order in shop.orders.values()]
    assert {s: states.count(s) for s in states} == {
        "placed": 2, "shipped": 2, "delivered": 9, "cancelled": 2
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_past_orders_cost_what_the_rules_say(seed: int) -> None:
    """Each past order is priced again by the model, as if it were a cart on that day."""
    session = open_session("shopping", seed)
    shop = shop_of(session)
    for order in shop.orders.values():
        then = open_session("shopping", seed, today=order.placed_at)
        model = Model(then)
        model.cart = {line.variant: line.quantity for line in order.lines}
        model.line_order = lambda order=order: [x.variant for x in order.lines]  # type: ignore[method-assign, misc]
        bill = model.bill(order.address, order.method, order.coupons)
        assert bill.total == model.orders[order.id].whole
        assert bill.tax == sum(line.tax for line in order.lines) + order.shipping_tax


def transcript(seed: int) -> str:
    """All results of all chains and refusals in one world."""
    templates = templates_of("shopping")
    texts = []
    for name, maker in {**templates.chains, **templates.refusals}.items():
        for attempt in range(200):
            session = open_session("shopping", seed)
            made = maker(session.server, Chance(f"{name}/{seed}/{attempt}"))
            if made is not None:
                texts += [result.text for result in run_chain(made, session).results]
                texts.append(session.state_hash())
                break
    return "\n".join(texts)


def digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def test_a_seed_gives_the_same_world_and_the_same_answers_on_every_machine() -> None:
    """A change of the world or of a text is seen here; the digests are then written anew."""
    assert [Shopping.world(seed).digest[:16] for seed in range(3)] == WORLDS
    assert [digest(transcript(seed)) for seed in range(2)] == TRANSCRIPTS


WORLDS = ["b6132afc5f5d3b25", "630301d654e60596", "a4dc3326c77e35cc"]
TRANSCRIPTS = ["e45e65cd5a3d3834", "53c478bb5a30e398"]


def test_what_rewards_compare_does_not_hold_the_time_of_a_call() -> None:
    one, other = open_session("shopping"), open_session("shopping")
    good(other, "show_cart")
    for session in (one, other):
        to_home(session)
    assert one.changes() == other.changes()
    assert one.state_hash() != other.state_hash()


# -- the page ----------------------------------------------------------------------------------

PAGE = (ROOT / "docs" / "servers" / "shopping.md").read_text(encoding="utf-8")


def test_the_page_has_every_tool_as_it_is() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (READ|WRITE)(, destructive)?(, idempotent)? \|", PAGE, re.M)
    assert {name: (access, bool(d), bool(i)) for name, access, d, i in rows} == {
        name: (
            tool.access,
            tool.destructive,
            tool.idempotent and tool.access is Access.WRITE,
        )
        for name, tool in Shopping.tools.items()
    }


def test_the_page_has_every_reason_of_a_refusal() -> None:
    """All that can be raised is in the table; all but two limits are reached by a chain."""
    folder = ROOT / "orch_env" / "servers" / "domains" / "shopping"
    code = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    raised = set(re.findall(r'"([a-z_]+)"', " ".join(re.findall(r"reason=([^,)]*)", code))))
    raised.add("fraction_of_a_cent")  # money.to_cents
    table = PAGE.split("## Refusals")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.M)) == raised
    assert raised - set(templates_of("shopping").refusals) == {"cart_full", "wish_list_full"}

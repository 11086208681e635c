"""The shop a second time: a model that follows the rules of docs/servers/shopping.md by itself.

It takes from the server only the records of the world at the start. Prices are fractions, days are
counted one by one, and nothing here calls the server's code.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from fractions import Fraction
from typing import Any

from orch_env.servers import ServerSession

TAX: dict[str, tuple[str, str]] = {
    "Austria": ("20", "10"),
    "Belgium": ("21", "6"),
    "Denmark": ("25", "25"),
    "France": ("20", "5.5"),
    "Germany": ("19", "7"),
    "Ireland": ("23", "0"),
    "Netherlands": ("21", "9"),
    "Switzerland": ("0", "0"),
}
"""Per cent on most goods and shipping, and on books and food."""


def cents(amount: Fraction) -> int:
    """Half a cent is rounded up."""
    return math.floor(amount + Fraction(1, 2))


def money(whole: int) -> float:
    return float(Fraction(whole, 100))


@dataclass
class Paid:
    """One line of a bill in cents."""

    quantity: int
    price: int
    discount: int
    tax: int

    @property
    def whole(self) -> int:
        return self.quantity * self.price - self.discount + self.tax


@dataclass
class Bill:
    lines: dict[str, Paid]
    off: dict[str, int]
    shipping: int
    shipping_tax: int

    @property
    def goods(self) -> int:
        return sum(line.quantity * line.price - line.discount for line in self.lines.values())

    @property
    def tax(self) -> int:
        return sum(line.tax for line in self.lines.values()) + self.shipping_tax

    @property
    def total(self) -> int:
        return self.goods + self.shipping + self.tax


@dataclass
class Placed:
    """An order: what was paid, when, and what came back since."""

    lines: dict[str, Paid]
    codes: tuple[str, ...]
    payment: str
    shipping: int
    placed: datetime
    days: int
    cancelled: bool
    back: dict[str, int] = field(default_factory=dict)

    @property
    def whole(self) -> int:
        return sum(line.whole for line in self.lines.values()) + self.shipping

    def status(self, now: datetime) -> str:
        if self.cancelled:
            return "cancelled"
        first = self.placed.date() + timedelta(days=self.placed.time().hour >= 14)
        leaves = next(workdays(first))
        arrives = take(self.days + 1, workdays(leaves))[-1]
        for name, day, hour in (
            ("delivered", arrives, 12),
            ("shipped", leaves, 18),
            ("packed", leaves, 16),
        ):
            if now >= datetime(day.year, day.month, day.day, hour):
                return name
        return "placed"

    def arrives(self) -> date:
        day = self.placed
        while self.status(day) != "delivered":
            day += timedelta(hours=1)
            day = day.replace(minute=0)
        return day.date()


def workdays(day: date) -> Iterator[date]:
    while True:
        if day.isoweekday() <= 5:
            yield day
        day += timedelta(days=1)


def take(count: int, days: Iterator[date]) -> list[date]:
    return [next(days) for _ in range(count)]


class Model:
    """The state of a shop by the rules alone.

    Each ``may_...`` gives the reasons to refuse a call, empty if it must succeed.
    """

    def __init__(self, session: ServerSession) -> None:
        shop: Any = session.server
        self.session = session
        self.products = dict(shop.products)
        self.variants = dict(shop.variants)
        self.coupons = dict(shop.coupons)
        self.rates = {(r.region, r.method): r for r in shop.rates.values()}
        self.payments = dict(shop.payments)
        self.regions = {a.id: a.region for a in shop.addresses.values()}
        self.stock = {v.id: v.stock for v in shop.variants.values()}
        self.gifts = {p.id: p.balance for p in shop.payments.values() if p.kind == "gift_card"}
        self.cart = {line.variant: line.quantity for line in shop.cart.values()}
        self.codes = set(shop.cart_coupons)
        self.wishes = set(shop.wishes)
        self.reviewed = {r.product for r in shop.reviews.values() if r.mine}
        self.orders = {
            o.id: Placed(
                {x.variant: Paid(x.quantity, x.unit_price, x.discount, x.tax) for x in o.lines},
                o.coupons,
                o.payment,
                o.shipping + o.shipping_tax,
                datetime.fromisoformat(o.placed_at),
                o.days,
                o.cancelled,
            )
            for o in shop.orders.values()
        }
        for back in shop.returns.values():
            self.orders[back.order].back[back.variant] = back.quantity

    @property
    def now(self) -> datetime:
        return self.session.clock.now

    # -- prices ------------------------------------------------------------------------------

    def offer(self, variant: str) -> int:
        """Per cent off today."""
        today = self.now.date()
        for offer in self.products[self.variants[variant].product].offers:
            if date.fromisoformat(offer.first) <= today <= date.fromisoformat(offer.last):
                return int(offer.percent)
        return 0

    def price(self, variant: str) -> int:
        full = self.variants[variant].list_price
        return int(full) - cents(Fraction(full * self.offer(variant), 100))

    def covered(self, code: str, cart: dict[str, int]) -> list[str]:
        coupon = self.coupons[code]
        return [
            variant
            for variant in cart
            if (
                not coupon.categories
                or self.products[self.variants[variant].product].category in coupon.categories
            )
            and not (self.offer(variant) and not coupon.covers_offers)
        ]

    def bill(self, address: str, method: str, codes: Iterable[str]) -> Bill:
        """What the cart costs with these coupons."""
        region = self.regions[address]
        rate = self.rates[region, method]
        # The shop keeps the world's variants first, then all others by id; a cart has no others.
        cart = {variant: self.cart[variant] for variant in self.line_order()}
        left = {variant: quantity * self.price(variant) for variant, quantity in cart.items()}
        full = dict(left)
        off = dict.fromkeys(codes, 0)
        for code in sorted(off, key=lambda code: self.coupons[code].percent == 0):
            coupon, lines = self.coupons[code], self.covered(code, cart)
            whole = sum(left[variant] for variant in lines)
            if coupon.percent:
                taken = {v: cents(Fraction(left[v] * coupon.percent, 100)) for v in lines}
            elif whole:
                amount = min(coupon.amount, whole)
                exact = {v: Fraction(amount * left[v], whole) for v in lines}
                taken = {v: math.floor(share) for v, share in exact.items()}
                missing = amount - sum(taken.values())
                by_loss = sorted(lines, key=lambda v: exact[v] - taken[v], reverse=True)
                for variant in by_loss[:missing]:
                    taken[variant] += 1
            else:
                taken = {}
            off[code] = sum(taken.values())
            for variant, amount in taken.items():
                left[variant] -= amount
        lines = {}
        for variant, quantity in cart.items():
            reduced = self.products[self.variants[variant].product].category in ("Books", "Pantry")
            tax = cents(left[variant] * Fraction(TAX[region][reduced]) / 100)
            lines[variant] = Paid(quantity, self.price(variant), full[variant] - left[variant], tax)
        kilos = max(0, math.ceil(Fraction(self.weight() - 2000, 1000)))
        free = rate.free_from is not None and sum(left.values()) >= rate.free_from
        shipping = 0 if free else rate.base + kilos * rate.per_kg
        shipping_tax = cents(shipping * Fraction(TAX[region][0]) / 100)
        return Bill(lines, off, shipping, shipping_tax)

    def line_order(self) -> list[str]:
        """The cart's lines: those of the start, then later ones by their ids."""
        base = list(self.session.server.world(self.session.server.seed).tables["cart"])
        return [v for v in base if v in self.cart] + sorted(self.cart.keys() - set(base))

    def weight(self) -> int:
        return sum(
            quantity * self.products[self.variants[variant].product].weight_g
            for variant, quantity in self.cart.items()
        )

    def used(self, code: str) -> bool:
        return any(code in order.codes and not order.cancelled for order in self.orders.values())

    # -- reasons to refuse ---------------------------------------------------------------------

    def may_hold(self, variant: str, quantity: int) -> set[str]:
        limit = self.products[self.variants[variant].product].max_per_order
        reasons = {"out_of_stock"} if quantity > self.stock[variant] else set()
        return reasons | ({"quantity_limit"} if quantity > limit else set())

    def may_order_with(self, code: str) -> set[str]:
        """Reasons why the cart cannot be ordered with a coupon."""
        coupon, today = self.coupons[code], self.now.date()
        lines = self.covered(code, self.cart)
        value = sum(self.cart[variant] * self.price(variant) for variant in lines)
        reasons = {
            "coupon_used": self.used(code),
            "coupon_not_yet_valid": today < date.fromisoformat(coupon.first),
            "coupon_expired": today > date.fromisoformat(coupon.last),
            "coupon_covers_nothing": not lines,
            "coupon_minimum": value < coupon.minimum,
        }
        return {reason for reason, holds in reasons.items() if holds}

    def may_apply(self, code: str) -> set[str]:
        coupon = self.coupons[code]
        reasons = self.may_order_with(code)
        if code in self.codes:
            reasons.add("coupon_applied")
        for other in (self.coupons[c] for c in self.codes - {code}):
            both_percent = coupon.percent > 0 and other.percent > 0
            both_fixed = coupon.amount > 0 and other.amount > 0
            alone = not coupon.combines or not other.combines
            if both_percent or both_fixed or alone:
                reasons.add("coupon_conflict")
        return reasons

    def may_send(self, address: str, method: str) -> set[str]:
        reasons = set() if self.cart else {"cart_empty"}
        rate = self.rates.get((self.regions[address], method))
        if rate is None:
            return reasons | {"no_delivery"}
        return reasons | ({"too_heavy"} if self.weight() > rate.max_weight_g else set())

    def may_place(self, address: str, method: str, payment: str) -> set[str]:
        reasons = self.may_send(address, method)
        for code in self.codes:
            reasons |= self.may_order_with(code)
        if reasons:
            return reasons
        total = self.bill(address, method, self.codes).total
        held = self.payments[payment]
        if held.kind == "gift_card":
            return {"insufficient_balance"} if total > self.gifts[payment] else set()
        if held.kind == "card" and held.expires < f"{self.now:%Y-%m}":
            reasons.add("payment_expired")
        return reasons | ({"payment_limit"} if total > held.limit else set())

    def may_cancel(self, order: str) -> set[str]:
        status = self.orders[order].status(self.now)
        return {
            "cancelled": {"already_cancelled"},
            "shipped": {"already_shipped"},
            "delivered": {"already_shipped"},
        }.get(status, set())

    def may_return(self, order: str, variant: str, quantity: int) -> set[str]:
        placed = self.orders[order]
        line = placed.lines.get(variant)
        if line is None:
            return {"not_in_order"}
        delivered = placed.status(self.now) == "delivered"
        reasons = set() if delivered else {"not_delivered"}
        if not self.products[self.variants[variant].product].returnable:
            reasons.add("not_returnable")
        if delivered and (self.now.date() - placed.arrives()).days > 30:
            reasons.add("window_closed")
        if placed.back.get(variant, 0) + quantity > line.quantity:
            reasons.add("too_many")
        return reasons

    def may_review(self, product: str) -> set[str]:
        states = {
            order.status(self.now)
            for order in self.orders.values()
            if any(self.variants[variant].product == product for variant in order.lines)
        }
        reasons = {"already_reviewed"} if product in self.reviewed else set()
        if "delivered" in states:
            return reasons
        return reasons | ({"not_delivered"} if states - {"cancelled"} else {"not_bought"})

    # -- what calls do -------------------------------------------------------------------------

    def place(self, order: str, address: str, method: str, payment: str) -> Bill:
        bill = self.bill(address, method, self.codes)
        self.orders[order] = Placed(
            bill.lines,
            tuple(self.codes),
            payment,
            bill.shipping + bill.shipping_tax,
            self.now,
            self.rates[self.regions[address], method].days,
            cancelled=False,
        )
        for variant, quantity in self.cart.items():
            self.stock[variant] -= quantity
        self.pay_back(payment, -bill.total)
        self.cart, self.codes = {}, set()
        return bill

    def cancel(self, order: str) -> int:
        placed = self.orders[order]
        placed.cancelled = True
        for variant, line in placed.lines.items():
            self.stock[variant] += line.quantity
        self.pay_back(placed.payment, placed.whole)
        return placed.whole

    def send_back(self, order: str, variant: str, quantity: int, reason: str) -> int:
        placed = self.orders[order]
        line, before = placed.lines[variant], placed.back.get(variant, 0)
        each = Fraction(line.whole, line.quantity)
        refund = cents(each * (before + quantity)) - cents(each * before)
        refund = max(0, refund - (495 if reason == "changed_mind" else 0))
        placed.back[variant] = before + quantity
        if reason != "damaged":
            self.stock[variant] += quantity
        self.pay_back(placed.payment, refund)
        return refund

    def pay_back(self, payment: str, amount: int) -> None:
        if payment in self.gifts:
            self.gifts[payment] += amount

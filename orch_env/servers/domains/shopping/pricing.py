"""What goods cost: coupons, tax, shipping, and what is paid back for a return.

Amounts are whole cents, rounded half up where a rule divides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orch_env.servers.domains.shopping.records import Coupon, OrderLine, Rate, percent_of

STANDARD_TAX = {
    "Austria": 2000,
    "Belgium": 2100,
    "Denmark": 2500,
    "France": 2000,
    "Germany": 1900,
    "Ireland": 2300,
    "Netherlands": 2100,
}
"""Basis points on most goods and on shipping. Goods for Switzerland leave untaxed."""
REDUCED_TAX = {
    "Austria": {"Books": 1000, "Pantry": 1000},
    "Belgium": {"Books": 600, "Pantry": 600},
    "France": {"Books": 550, "Pantry": 550},
    "Germany": {"Books": 700, "Pantry": 700},
    "Ireland": {"Books": 0, "Pantry": 0},
    "Netherlands": {"Books": 900, "Pantry": 900},
}
"""Basis points on categories that are taxed less."""
BASE_WEIGHT_G = 2000
RETURN_FEE = 495
"""Cents kept from the refund of a customer who changed their mind, once a return."""


@dataclass(frozen=True, slots=True)
class Item:
    """Goods to be priced: one line of a cart."""

    variant: str
    category: str
    quantity: int
    unit_price: int
    on_offer: bool
    weight_g: int

    @property
    def value(self) -> int:
        """Before coupons."""
        return self.quantity * self.unit_price


@dataclass(frozen=True, slots=True)
class Quote:
    """The price of goods, by line and by coupon, and of their way to the customer.

    Attributes:
        lines: in the order of the items.
        off: what each coupon takes off, in the order of the coupons.
        shipping: before tax.
    """

    lines: tuple[OrderLine, ...]
    off: tuple[int, ...]
    shipping: int
    shipping_tax: int


def covered(coupon: Coupon, item: Item) -> bool:
    """Whether a coupon lowers the price of these goods."""
    return (not coupon.categories or item.category in coupon.categories) and (
        coupon.covers_offers or not item.on_offer
    )


def discounts(items: Sequence[Item], coupons: Sequence[Coupon]) -> list[list[int]]:
    """What each coupon takes off each line.

    Percentages come first, line by line. A fixed coupon then takes its amount, at most all that is
    left, off the lines it covers: each bears its share of what is left, in whole cents, and the
    cents that this leaves over go to those whose shares were cut most, earlier lines first.
    """
    left = [item.value for item in items]
    off = {coupon.code: [0] * len(items) for coupon in coupons}
    for coupon in sorted(coupons, key=lambda c: c.amount > 0):
        lines = [n for n, item in enumerate(items) if covered(coupon, item)]
        if coupon.percent:
            taken = {n: percent_of(left[n], coupon.percent) for n in lines}
        else:
            taken = _shares(coupon.amount, {n: left[n] for n in lines})
        for n, cents in taken.items():
            off[coupon.code][n] = cents
            left[n] -= cents
    return [off[coupon.code] for coupon in coupons]


def _shares(amount: int, left: dict[int, int]) -> dict[int, int]:
    whole = sum(left.values())
    amount = min(amount, whole)
    if not amount:
        return {}
    shares = {n: amount * cents // whole for n, cents in left.items()}
    over = amount - sum(shares.values())
    for n in sorted(left, key=lambda n: (-(amount * left[n] % whole), n))[:over]:
        shares[n] += 1
    return shares


def tax_rate(region: str, category: str | None = None) -> int:
    """Basis points of tax on goods of a category, or on shipping."""
    standard = STANDARD_TAX.get(region, 0)
    return REDUCED_TAX.get(region, {}).get(category, standard) if category else standard


def shipping_cost(rate: Rate, weight_g: int, goods: int) -> int:
    """What a parcel costs.

    Args:
        rate: of the method and region.
        weight_g: grams of all goods.
        goods: their value after coupons.
    """
    if rate.free_from is not None and goods >= rate.free_from:
        return 0
    return rate.base + rate.per_kg * (max(0, weight_g - BASE_WEIGHT_G + 999) // 1000)


def quote(items: Sequence[Item], coupons: Sequence[Coupon], rate: Rate) -> Quote:
    """Price goods with coupons, sent at a rate. Tax is rounded for each line."""
    off = discounts(items, coupons)
    lines = []
    for n, item in enumerate(items):
        discount = sum(by_line[n] for by_line in off)
        tax = _tax(item.value - discount, tax_rate(rate.region, item.category))
        lines.append(OrderLine(item.variant, item.quantity, item.unit_price, discount, tax))
    goods = sum(item.value for item in items) - sum(map(sum, off))
    weight = sum(item.weight_g * item.quantity for item in items)
    shipping = shipping_cost(rate, weight, goods)
    tax = _tax(shipping, tax_rate(rate.region))
    return Quote(tuple(lines), tuple(map(sum, off)), shipping, tax)


def _tax(cents: int, basis_points: int) -> int:
    return (cents * basis_points + 5000) // 10_000


def paid(line: OrderLine) -> int:
    """What a customer paid for a line, tax included."""
    return line.quantity * line.unit_price - line.discount + line.tax


def refund(line: OrderLine, before: int, quantity: int, fee: int) -> int:
    """What is paid back for some pieces of a line.

    All pieces of a line together give what was paid for it, to the cent, less the fees.

    Args:
        line: as it was ordered.
        before: pieces that were returned earlier.
        quantity: pieces that are returned now.
        fee: kept by the shop, as far as the refund reaches.
    """

    def share(pieces: int) -> int:
        return (2 * paid(line) * pieces + line.quantity) // (2 * line.quantity)

    return max(0, share(before + quantity) - share(before) - fee)

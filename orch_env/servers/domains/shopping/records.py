"""What an online shop keeps: goods, offers, coupons, a customer's cart, orders, returns, reviews.

All amounts of money are whole cents.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Annotated, Literal, get_args

from orch_env.servers.framework.arguments import Length, Pattern, Range
from orch_env.servers.framework.records import Stamp
from orch_env.servers.framework.server import Server
from orch_env.servers.framework.table import Table

Category = Literal["Books", "Clothing", "Electronics", "Kitchen", "Outdoor", "Pantry", "Toys"]
Region = Literal[
    "Austria", "Belgium", "Denmark", "France", "Germany", "Ireland", "Netherlands", "Switzerland"
]
Method = Literal["standard", "express", "parcel_shop"]
Reason = Literal["changed_mind", "damaged", "wrong_item"]
CATEGORIES: tuple[Category, ...] = get_args(Category)
REGIONS: tuple[Region, ...] = get_args(Region)
METHODS: tuple[Method, ...] = get_args(Method)

ProductId = Annotated[str, Pattern("PR-[0-9]{5}")]
VariantId = Annotated[str, Pattern("SK-[0-9]{6}")]
AddressId = Annotated[str, Pattern("AD-[0-9]{4}")]
PaymentId = Annotated[str, Pattern("PM-[0-9]{4}")]
OrderId = Annotated[str, Pattern("OR-[0-9]{7}")]
Name = Annotated[str, Length(1, 80)]
Pieces = Annotated[int, Range(1, 99)]


@dataclass(frozen=True, slots=True)
class Offer:
    """A product's price is lower by some percent from one date to another, both included."""

    percent: int
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class Product:
    """What the shop sells, in one or more variants; no two have the same name."""

    id: str
    name: str
    brand: str
    category: str
    description: str
    weight_g: int
    returnable: bool
    max_per_order: int
    offers: tuple[Offer, ...]
    variants: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Variant:
    """A product in one colour and size; an empty text where it comes in one only."""

    id: str
    product: str
    colour: str
    size: str
    list_price: int
    stock: int


@dataclass(frozen=True, slots=True)
class Review:
    """What somebody wrote about a product; this customer's own reviews are ``mine``."""

    id: str
    product: str
    author: str
    mine: bool
    stars: int
    title: str
    text: str
    written_at: Stamp


@dataclass(frozen=True, slots=True)
class Wish:
    """A variant that the customer wants to remember, and its price on that day."""

    variant: str
    price_then: int
    added_at: Stamp


@dataclass(frozen=True, slots=True)
class CartLine:
    """How many of a variant lie in the cart."""

    variant: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Coupon:
    """A customer's coupon, for one order.

    Attributes:
        percent: taken off each line that it covers; 0 for a fixed coupon.
        amount: taken off all lines that it covers together; 0 for a percentage coupon.
        minimum: what the covered lines must be worth before any coupon.
        categories: those that it covers; empty for all.
        covers_offers: whether it covers goods on offer.
        combines: whether another coupon may be used beside it.
        first: the first date on which it is valid.
        last: the last one.
    """

    code: str
    percent: int
    amount: int
    minimum: int
    categories: tuple[str, ...]
    covers_offers: bool
    combines: bool
    first: str
    last: str


@dataclass(frozen=True, slots=True)
class CartCoupon:
    """A coupon that is applied to the cart."""

    code: str


@dataclass(frozen=True, slots=True)
class Address:
    """Where the customer can receive parcels; no two have the same label."""

    id: str
    label: str
    recipient: str
    street: str
    postcode: str
    town: str
    region: str


class PaymentKind(StrEnum):
    """How an order is paid."""

    CARD = "card"
    """Until the end of the month in which it expires, up to its limit for one order."""
    GIFT_CARD = "gift_card"
    """Up to its balance."""
    INVOICE = "invoice"
    """Up to its limit for one order."""


@dataclass(frozen=True, slots=True)
class Payment:
    """A way to pay; fields that its kind does not have are empty or 0."""

    id: str
    label: str
    kind: PaymentKind
    expires: str
    limit: int
    balance: int


@dataclass(frozen=True, slots=True)
class Rate:
    """What shipping to a region costs by one method.

    Attributes:
        base: for a parcel of up to 2 kg.
        per_kg: for each further kilogram begun.
        max_weight_g: the heaviest parcel.
        days: working days from the warehouse to the door.
        free_from: value of goods, after coupons, from which it costs nothing; ``None`` for never.
    """

    id: str
    region: str
    method: str
    base: int
    per_kg: int
    max_weight_g: int
    days: int
    free_from: int | None


@dataclass(frozen=True, slots=True)
class OrderLine:
    """One variant of an order; discount and tax are those of the whole line."""

    variant: str
    quantity: int
    unit_price: int
    discount: int
    tax: int


@dataclass(frozen=True, slots=True)
class Order:
    """What was ordered and how it is sent; its state follows from when it was placed."""

    id: str
    lines: tuple[OrderLine, ...]
    coupons: tuple[str, ...]
    address: str
    payment: str
    method: str
    days: int
    shipping: int
    shipping_tax: int
    placed_at: Stamp
    cancelled: bool


@dataclass(frozen=True, slots=True)
class Return:
    """Goods that the customer sends back, and what the shop pays for them."""

    id: str
    order: str
    variant: str
    quantity: int
    reason: str
    refund: int
    asked_at: Stamp


class ShopState(Server):
    """The tables of the shop and what several of its parts look up."""

    products: Table[Product]
    variants: Table[Variant]
    reviews: Table[Review]
    wishes: Table[Wish]
    cart: Table[CartLine]
    cart_coupons: Table[CartCoupon]
    coupons: Table[Coupon]
    addresses: Table[Address]
    payments: Table[Payment]
    rates: Table[Rate]
    orders: Table[Order]
    returns: Table[Return]

    def price(self, variant: Variant, day: str | None = None) -> int:
        """Cents for one piece on a date, today by default, with the offer of that date."""
        offer = self.offer(self.products[variant.product], day)
        return variant.list_price - (percent_of(variant.list_price, offer.percent) if offer else 0)

    def offer(self, product: Product, day: str | None = None) -> Offer | None:
        """The offer that a product has on a date, today by default."""
        day = day or self.today
        return next((o for o in product.offers if o.first <= day <= o.last), None)

    def full_name(self, variant: Variant) -> str:
        """The product's name with colour and size: ``Lindmoor Wool Socks, M``."""
        name = self.products[variant.product].name
        return ", ".join(part for part in (name, variant.colour, variant.size) if part)

    @property
    def stamp(self) -> str:
        """The session's time as records keep it."""
        return self.now.isoformat(timespec="minutes")

    def move_stock(self, variant: str, pieces: int) -> None:
        """Put pieces into the stock, or take them out of it."""
        held = self.variants[variant]
        self.variants[variant] = replace(held, stock=held.stock + pieces)

    def pay_back(self, payment: str, cents: int) -> None:
        """Give money back the way it came; of a gift card the balance shows it."""
        held = self.payments[payment]
        if held.kind is PaymentKind.GIFT_CARD:
            self.payments[payment] = replace(held, balance=held.balance + cents)


def percent_of(cents: int, percent: int) -> int:
    """A percentage of an amount, half a cent rounded up."""
    return (cents * percent + 50) // 100

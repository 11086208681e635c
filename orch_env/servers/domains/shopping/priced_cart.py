"""The cart as goods with prices, and whether its coupons and its parcel are in order."""

from __future__ import annotations

from orch_env.servers.domains.shopping.pricing import Item, Quote, covered, paid
from orch_env.servers.domains.shopping.records import Coupon, OrderLine, Rate, ShopState
from orch_env.servers.framework.errors import ToolRefusal
from orch_env.servers.framework.money import from_cents
from orch_env.types.json import JsonObject

ASK_ADDRESS = "list_addresses gives it."


class PricedCart(ShopState):
    """What showing, ordering and sending a cart have in common."""

    def items(self) -> list[Item]:
        """The cart's lines with today's prices, in its order."""
        return [self.item(line.variant, line.quantity) for line in self.cart.values()]

    def item(self, variant: str, quantity: int, day: str | None = None) -> Item:
        """Some pieces of a variant at the price of a date, today by default."""
        held = self.variants[variant]
        product = self.products[held.product]
        offer = self.offer(product, day)
        return Item(
            variant,
            product.category,
            quantity,
            self.price(held, day),
            offer is not None,
            product.weight_g,
        )

    def applied(self) -> list[Coupon]:
        """The coupons that are applied to the cart."""
        return [self.coupons[code] for code in self.cart_coupons]

    def refusal_of(self, coupon: Coupon, items: list[Item]) -> ToolRefusal | None:
        """Why a cart of these items cannot be ordered with a coupon, ``None`` if it can."""
        code = coupon.code
        if self.used(coupon):
            return ToolRefusal(f"{code} was used for an order already.", reason="coupon_used")
        if self.today < coupon.first:
            return ToolRefusal(
                f"{code} is valid from {coupon.first} on.", reason="coupon_not_yet_valid"
            )
        if self.today > coupon.last:
            return ToolRefusal(
                f"{code} expired on {coupon.last}; choose another one.", reason="coupon_expired"
            )
        value = sum(item.value for item in items if covered(coupon, item))
        if not value:
            only = ", ".join(coupon.categories) or "all categories"
            offers = "" if coupon.covers_offers else ", but not goods on offer"
            return ToolRefusal(
                f"{code} covers nothing in the cart: it is for {only}{offers}.",
                reason="coupon_covers_nothing",
            )
        if value < coupon.minimum:
            return ToolRefusal(
                f"{code} needs goods for {from_cents(coupon.minimum):.2f} that it covers; the cart "
                f"has {from_cents(value):.2f}. Add to the cart or take the coupon off.",
                reason="coupon_minimum",
                missing=from_cents(coupon.minimum - value),
            )
        return None

    def rate(self, address: str, method: str) -> Rate:
        """The rate of a shipping method to an address.

        Raises:
            ToolRefusal: the method does not go there.
        """
        region = self.addresses.need(address, ASK_ADDRESS).region
        rate = self.rates.get(f"{method}-{region}")
        if rate is None:
            raise ToolRefusal(
                f"Nothing is sent to {region} by {method}; shipping_options has what goes there.",
                reason="no_delivery",
            )
        return rate

    def used(self, coupon: Coupon) -> bool:
        """Whether an order that stands was placed with a coupon."""
        return any(coupon.code in o.coupons and not o.cancelled for o in self.orders.values())


def weight_of(items: list[Item]) -> int:
    """Grams of all goods."""
    return sum(item.weight_g * item.quantity for item in items)


def check_filled(items: list[Item]) -> None:
    """Refuse an empty cart."""
    if not items:
        raise ToolRefusal("The cart is empty; add_to_cart fills it.", reason="cart_empty")


def check_weight(items: list[Item], rate: Rate) -> None:
    """Refuse a parcel that is too heavy for its shipping method."""
    weight = weight_of(items)
    if weight > rate.max_weight_g:
        raise ToolRefusal(
            f"The parcel weighs {weight} g, and {rate.method} to {rate.region} takes at most "
            f"{rate.max_weight_g} g. Choose another method or order in two parts.",
            reason="too_heavy",
            weight_g=weight,
        )


def amounts(priced: Quote) -> JsonObject:
    """The final price of goods on their way, as tools show it."""
    tax = sum(line.tax for line in priced.lines) + priced.shipping_tax
    return {
        "shipping": from_cents(priced.shipping),
        "tax": from_cents(tax),
        "total": from_cents(total(priced.lines, priced.shipping + priced.shipping_tax)),
    }


def total(lines: tuple[OrderLine, ...], shipping: int) -> int:
    """What a customer pays: all lines with tax, and shipping with its tax."""
    return sum(map(paid, lines)) + shipping

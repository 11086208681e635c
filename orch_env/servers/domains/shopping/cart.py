"""The cart and its coupons."""

from __future__ import annotations

from typing import Annotated

from orch_env.servers.domains.shopping.priced_cart import (
    PricedCart,
    amounts,
    check_filled,
    check_weight,
)
from orch_env.servers.domains.shopping.pricing import Item, discounts, quote
from orch_env.servers.domains.shopping.records import (
    AddressId,
    CartCoupon,
    CartLine,
    Coupon,
    Method,
    Pieces,
    VariantId,
)
from orch_env.servers.framework.arguments import Length, Range
from orch_env.servers.framework.errors import InvalidArguments, NotFound, ToolRefusal
from orch_env.servers.framework.money import from_cents
from orch_env.servers.framework.server import read, write
from orch_env.types.json import JsonObject

MAX_LINES = 30
"""Lines of a cart."""

CouponCode = Annotated[str, Length(1, 30)]


class CartTools(PricedCart):
    """Filling the cart and pricing it."""

    @read
    def show_cart(
        self, address: AddressId | None = None, shipping: Method | None = None
    ) -> JsonObject:
        """The cart with its coupons; with an address and a shipping method also the final price.

        Prices are without tax; the total has tax and shipping in it.

        Args:
            address: Where the goods would go; list_addresses gives it.
            shipping: How they would be sent; shipping_options says how they can be.
        """
        if (address is None) != (shipping is None):
            raise InvalidArguments(
                "The final price needs both an address and a shipping method; give both, or "
                "neither.",
                reason="half_a_destination",
            )
        items = self.items()
        coupons = self.applied()
        problems = {c.code: p.message for c in coupons if (p := self.refusal_of(c, items))}
        good = [coupon for coupon in coupons if coupon.code not in problems]
        off = dict(zip((c.code for c in good), discounts(items, good), strict=True))
        value = sum(item.value for item in items)
        discount = sum(map(sum, off.values()))
        shown: JsonObject = {
            "lines": [
                {
                    "variant": item.variant,
                    "name": self.full_name(self.variants[item.variant]),
                    "quantity": item.quantity,
                    "price": from_cents(item.unit_price),
                    "value": from_cents(item.value),
                }
                for item in items
            ],
            "coupons": [
                {
                    "code": coupon.code,
                    "discount": from_cents(sum(off.get(coupon.code, ()))),
                    "problem": problems.get(coupon.code),
                }
                for coupon in coupons
            ],
            "value": from_cents(value),
            "discount": from_cents(discount),
            "goods": from_cents(value - discount),
        }
        if address is None or shipping is None:
            return shown
        rate = self.rate(address, shipping)
        check_filled(items)
        check_weight(items, rate)
        return shown | amounts(quote(items, good, rate))

    @write
    def add_to_cart(self, variant: VariantId, quantity: Pieces = 1) -> JsonObject:
        """Put a variant into the cart, on top of what is in it already.

        Args:
            variant: The variant's id; list_variants gives it.
            quantity: How many pieces.
        """
        held = self.cart.get(variant)
        if held is None and len(self.cart) >= MAX_LINES:
            raise ToolRefusal(
                f"The cart holds at most {MAX_LINES} variants; order these first.",
                reason="cart_full",
            )
        return self._put(variant, quantity + (held.quantity if held else 0))

    @write(destructive=True, idempotent=True)
    def set_quantity(
        self, variant: VariantId, quantity: Annotated[int, Range(0, 99)]
    ) -> JsonObject:
        """Change how many pieces of a variant are in the cart; 0 takes it out.

        Args:
            variant: The variant's id; show_cart gives it.
            quantity: How many pieces there shall be.
        """
        if variant not in self.cart:
            raise NotFound(
                f"{variant} is not in the cart; show_cart has what is, add_to_cart adds it.",
                reason="not_in_cart",
            )
        if quantity:
            return self._put(variant, quantity)
        del self.cart[variant]
        return {"variant": variant, "quantity": 0, "lines": len(self.cart)}

    @read
    def list_coupons(self, usable: bool = False) -> JsonObject:
        """The customer's coupons and their conditions.

        Args:
            usable: Only those that apply_coupon would take for the cart as it is now.
        """
        items = self.items()
        shown = [c for c in self.coupons.values() if not usable or not self._refused(c, items)]
        return {
            "coupons": [
                {
                    "code": coupon.code,
                    "percent_off": coupon.percent or None,
                    "amount_off": from_cents(coupon.amount) if coupon.amount else None,
                    "minimum": from_cents(coupon.minimum),
                    "categories": list(coupon.categories) or None,
                    "covers_offers": coupon.covers_offers,
                    "combines": coupon.combines,
                    "valid_from": coupon.first,
                    "valid_until": coupon.last,
                    "used": self.used(coupon),
                }
                for coupon in shown
            ]
        }

    @write(idempotent=True)
    def apply_coupon(self, code: CouponCode) -> JsonObject:
        """Apply a coupon to the cart: at most one percentage and one fixed amount.

        Args:
            code: The coupon's code, as the customer says it or from list_coupons.
        """
        code = code.strip().upper()
        coupon = self.coupons.get(code)
        if coupon is None:
            raise NotFound(
                f"This customer has no coupon {code}; list_coupons has those there are.",
                reason="unknown_coupon",
            )
        items = self.items()
        if problem := self._refused(coupon, items):
            raise problem
        self.cart_coupons[code] = CartCoupon(code)
        by_line = discounts(items, self.applied())
        return {
            "code": code,
            "discount": from_cents(sum(map(sum, by_line))),
            "goods": from_cents(sum(i.value for i in items) - sum(map(sum, by_line))),
        }

    @write(destructive=True, idempotent=True)
    def remove_coupon(self, code: CouponCode) -> JsonObject:
        """Take a coupon off the cart; it can be used another time.

        Args:
            code: The coupon's code; show_cart gives it.
        """
        code = code.strip().upper()
        if code not in self.cart_coupons:
            raise NotFound(
                f"{code} is not applied to the cart; show_cart has what is.",
                reason="coupon_not_applied",
            )
        del self.cart_coupons[code]
        return {"removed": code, "applied": [coupon.code for coupon in self.applied()]}

    def _refused(self, coupon: Coupon, items: list[Item]) -> ToolRefusal | None:
        """Why a coupon cannot be put on a cart of these items, ``None`` if it can."""
        code = coupon.code
        if code in self.cart_coupons:
            return ToolRefusal(f"{code} is applied already.", reason="coupon_applied")
        for other in self.applied():
            same = bool(coupon.amount) == bool(other.amount)
            if same or not (coupon.combines and other.combines):
                return ToolRefusal(
                    f"{code} cannot be used beside {other.code}; remove_coupon takes that one off.",
                    reason="coupon_conflict",
                    applied=other.code,
                )
        return self.refusal_of(coupon, items)

    def _put(self, variant: str, quantity: int) -> JsonObject:
        held = self.variants.need(variant, "list_variants gives it.")
        name = self.full_name(held)
        most = self.products[held.product].max_per_order
        if quantity > held.stock:
            raise ToolRefusal(
                f"{held.stock or 'None'} of {name} in stock, {quantity} wanted. Take fewer, or "
                "another variant.",
                reason="out_of_stock",
                stock=held.stock,
            )
        if quantity > most:
            raise ToolRefusal(
                f"At most {most} of {name} in one order, {quantity} wanted.",
                reason="quantity_limit",
                max_per_order=most,
            )
        self.cart[variant] = CartLine(variant, quantity)
        return {
            "variant": variant,
            "quantity": quantity,
            "price": from_cents(self.price(held)),
            "lines": len(self.cart),
        }

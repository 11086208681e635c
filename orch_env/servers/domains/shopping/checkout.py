"""Checkout: where the goods go, how they are sent, and what pays for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from orch_env.servers.domains.shopping.parcels import steps, steps_of
from orch_env.servers.domains.shopping.priced_cart import (
    ASK_ADDRESS,
    PricedCart,
    amounts,
    check_filled,
    check_weight,
    total,
    weight_of,
)
from orch_env.servers.domains.shopping.pricing import quote
from orch_env.servers.domains.shopping.records import (
    METHODS,
    Address,
    AddressId,
    Method,
    Name,
    Order,
    PaymentId,
    PaymentKind,
    Region,
)
from orch_env.servers.framework.arguments import Pattern
from orch_env.servers.framework.errors import NotFound, ToolRefusal
from orch_env.servers.framework.money import from_cents
from orch_env.servers.framework.server import read, write
from orch_env.types.json import JsonObject

MAX_ADDRESSES = 8
"""Entries of the address book."""


class CheckoutTools(PricedCart):
    """Where to, how, and paid by what."""

    @read
    def list_addresses(self, label: Name | None = None) -> JsonObject:
        """The customer's addresses.

        Args:
            label: Only the address with this label, such as "home".
        """
        found = [
            {
                "address": address.id,
                "label": address.label,
                "recipient": address.recipient,
                "street": address.street,
                "postcode": address.postcode,
                "town": address.town,
                "region": address.region,
            }
            for address in self.addresses.values()
            if label is None or address.label.casefold() == label.strip().casefold()
        ]
        if not found:
            raise NotFound(
                f"No address is labelled {label!r}; there are: "
                f"{', '.join(a.label for a in self.addresses.values())}.",
                reason="unknown_label",
            )
        return {"addresses": found}

    @write(idempotent=True)
    def add_address(
        self,
        label: Name,
        recipient: Name,
        street: Name,
        postcode: Annotated[str, Pattern("[A-Za-z0-9][A-Za-z0-9 -]{1,9}")],
        town: Name,
        region: Region,
    ) -> JsonObject:
        """Add an address under a new label.

        Args:
            label: What the customer calls it, such as "office".
            recipient: Who receives the parcels.
            street: Street and number.
            postcode: The postcode, as it is written there.
            town: The town.
            region: The country.
        """
        if any(a.label.casefold() == label.strip().casefold() for a in self.addresses.values()):
            raise ToolRefusal(
                f"There is an address {label.strip()!r} already; choose another label.",
                reason="label_taken",
            )
        if len(self.addresses) >= MAX_ADDRESSES:
            raise ToolRefusal(
                f"The address book is full ({MAX_ADDRESSES}); use one of its addresses.",
                reason="address_book_full",
            )
        new = self.new_id("AD-", label, street, postcode, taken=self.addresses)
        self.addresses[new] = Address(new, label.strip(), recipient, street, postcode, town, region)
        return {"address": new, "label": label.strip()}

    @read
    def list_payments(self, label: Name | None = None) -> JsonObject:
        """The customer's ways to pay.

        Args:
            label: Only the one with this label, such as "gift card".
        """
        found = [
            {
                "payment": payment.id,
                "label": payment.label,
                "kind": payment.kind,
                "expires": payment.expires or None,
                "limit": from_cents(payment.limit) if payment.limit else None,
                "balance": (
                    from_cents(payment.balance) if payment.kind is PaymentKind.GIFT_CARD else None
                ),
            }
            for payment in self.payments.values()
            if label is None or payment.label.casefold() == label.strip().casefold()
        ]
        if not found:
            raise NotFound(
                f"No way to pay is labelled {label!r}; there are: "
                f"{', '.join(p.label for p in self.payments.values())}.",
                reason="unknown_label",
            )
        return {"payments": found}

    @read
    def shipping_options(self, address: AddressId) -> JsonObject:
        """How the cart can be sent to an address: cost without tax, and the day it arrives.

        Args:
            address: The address' id; list_addresses gives it.
        """
        region = self.addresses.need(address, ASK_ADDRESS).region
        items = self.items()
        check_filled(items)
        good = [coupon for coupon in self.applied() if not self.refusal_of(coupon, items)]
        options = []
        for rate in (self.rates.get(f"{method}-{region}") for method in METHODS):
            if rate is not None:
                options.append(
                    {
                        "shipping": rate.method,
                        "cost": from_cents(quote(items, good, rate).shipping),
                        "arrives_on": steps(self.now, rate.days).delivered.date().isoformat(),
                        "free_from": None if rate.free_from is None else from_cents(rate.free_from),
                        "too_heavy": weight_of(items) > rate.max_weight_g,
                    }
                )
        return {"region": region, "options": options}

    @write
    def check_out(self, address: AddressId, shipping: Method, payment: PaymentId) -> JsonObject:
        """Order what is in the cart, with its coupons. It can be cancelled until it is shipped.

        Args:
            address: Where the goods go; list_addresses gives it.
            shipping: How they are sent; shipping_options says how they can be.
            payment: What pays for them; list_payments gives it.
        """
        items = self.items()
        check_filled(items)
        rate = self.rate(address, shipping)
        check_weight(items, rate)
        coupons = self.applied()
        for coupon in coupons:
            if problem := self.refusal_of(coupon, items):
                raise problem
        priced = quote(items, coupons, rate)
        self._pay(payment, total(priced.lines, priced.shipping + priced.shipping_tax))
        causes = (address, shipping, payment, *(f"{i.variant} {i.quantity}" for i in items))
        order = Order(
            id=self.new_id("OR-", *causes, taken=self.orders, digits=7),
            lines=priced.lines,
            coupons=tuple(coupon.code for coupon in coupons),
            address=address,
            payment=payment,
            method=shipping,
            days=rate.days,
            shipping=priced.shipping,
            shipping_tax=priced.shipping_tax,
            placed_at=self.stamp,
            cancelled=False,
        )
        self.orders[order.id] = order
        for item in items:
            self.move_stock(item.variant, -item.quantity)
        self.cart.clear()
        self.cart_coupons.clear()
        return {
            "order": order.id,
            **amounts(priced),
            "arrives_on": steps_of(order).delivered.date().isoformat(),
        }

    def _pay(self, payment: str, cents: int) -> None:
        held = self.payments.need(payment, "list_payments gives it.")
        if held.kind is PaymentKind.GIFT_CARD:
            if cents > held.balance:
                raise ToolRefusal(
                    f"The total is {from_cents(cents):.2f}, and {held.label!r} holds "
                    f"{from_cents(held.balance):.2f}. Pay another way or order less.",
                    reason="insufficient_balance",
                    missing=from_cents(cents - held.balance),
                )
            self.payments[payment] = replace(held, balance=held.balance - cents)
            return
        if held.expires and held.expires < self.today[:7]:
            raise ToolRefusal(
                f"{held.label!r} expired in {held.expires}; pay another way.",
                reason="payment_expired",
            )
        if cents > held.limit:
            raise ToolRefusal(
                f"The total is {from_cents(cents):.2f}, and {held.label!r} pays at most "
                f"{from_cents(held.limit):.2f} for one order. Pay another way or order less.",
                reason="payment_limit",
                limit=from_cents(held.limit),
            )

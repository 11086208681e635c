"""Orders after checkout: where they stand, cancelling them, sending goods back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

from orch_env.servers.domains.shopping.parcels import (
    RETURN_DAYS,
    Status,
    StatusName,
    last_return_day,
    status_of,
    steps_of,
)
from orch_env.servers.domains.shopping.priced_cart import total
from orch_env.servers.domains.shopping.pricing import RETURN_FEE, paid, refund
from orch_env.servers.domains.shopping.records import (
    Name,
    Order,
    OrderId,
    Pieces,
    Reason,
    Return,
    ShopState,
    VariantId,
)
from orch_env.servers.framework.arguments import Format, Range
from orch_env.servers.framework.errors import NotFound, ToolRefusal
from orch_env.servers.framework.money import from_cents
from orch_env.servers.framework.server import read, write
from orch_env.types.json import JsonObject

ASK_ORDER = "find_orders gives it."
Day = Annotated[str, Format("date")]


class OrderTools(ShopState):
    """Finding orders, cancelling them, sending goods back."""

    @read
    def find_orders(
        self,
        product: Name | None = None,
        status: StatusName | None = None,
        placed_from: Day | None = None,
        placed_to: Day | None = None,
        limit: Annotated[int, Range(1, 30)] = 10,
    ) -> JsonObject:
        """The customer's orders, the newest first.

        Args:
            product: Only orders with a product whose name contains this.
            status: Only orders that stand here now.
            placed_from: Only orders of this date or later.
            placed_to: Only orders of this date or earlier.
            limit: How many orders to show.
        """
        wanted = None if product is None else product.strip().casefold()
        found = [
            order
            for order in self.orders.values()
            if (wanted is None or any(wanted in name.casefold() for name in self._names(order)))
            and (status is None or status_of(order, self.now) == status)
            and (placed_from is None or order.placed_at[:10] >= placed_from)
            and (placed_to is None or order.placed_at[:10] <= placed_to)
        ]
        found.sort(key=lambda order: (order.placed_at, order.id), reverse=True)
        return {
            "found": len(found),
            "orders": [
                {
                    "order": order.id,
                    "placed_on": order.placed_at[:10],
                    "status": status_of(order, self.now),
                    "products": self._names(order),
                    "total": from_cents(_total(order)),
                }
                for order in found[:limit]
            ],
        }

    @read
    def show_order(self, order: OrderId) -> JsonObject:
        """One order: its lines, what was paid, where it stands, what was sent back.

        Args:
            order: The order's id; find_orders gives it.
        """
        held = self.orders.need(order, ASK_ORDER)
        status, way = status_of(held, self.now), steps_of(held)
        tax = sum(line.tax for line in held.lines) + held.shipping_tax
        return {
            "order": order,
            "status": status,
            "placed_at": held.placed_at,
            "arrives_on": way.delivered.date().isoformat(),
            "return_until": last_return_day(held).isoformat(),
            "address": self.addresses[held.address].label,
            "payment": self.payments[held.payment].label,
            "shipping_by": held.method,
            "lines": [
                {
                    "variant": line.variant,
                    "name": self.full_name(self.variants[line.variant]),
                    "quantity": line.quantity,
                    "price": from_cents(line.unit_price),
                    "discount": from_cents(line.discount),
                    "paid": from_cents(paid(line)),
                    "returned": self.returned(order, line.variant),
                }
                for line in held.lines
            ],
            "coupons": list(held.coupons),
            "shipping": from_cents(held.shipping),
            "tax": from_cents(tax),
            "total": from_cents(_total(held)),
            "refunded": from_cents(sum(r.refund for r in self.returns_of(order))),
        }

    @write(destructive=True, idempotent=True)
    def call_off_order(self, order: OrderId) -> JsonObject:
        """Cancel an order that was not shipped yet; all of it is paid back.

        Args:
            order: The order's id; find_orders gives it.
        """
        held = self.orders.need(order, ASK_ORDER)
        status = status_of(held, self.now)
        if status is Status.CANCELLED:
            raise ToolRefusal(f"{order} was cancelled already.", reason="already_cancelled")
        if status in (Status.SHIPPED, Status.DELIVERED):
            raise ToolRefusal(
                f"{order} was shipped on {steps_of(held).shipped.date()} and cannot be cancelled. "
                "return_items sends goods back once they have arrived.",
                reason="already_shipped",
                status=status,
            )
        self.orders[order] = replace(held, cancelled=True)
        for line in held.lines:
            self.move_stock(line.variant, line.quantity)
        self.pay_back(held.payment, _total(held))
        return {
            "order": order,
            "status": Status.CANCELLED,
            "refund": from_cents(_total(held)),
            "paid_back_to": self.payments[held.payment].label,
        }

    @write
    def return_items(
        self,
        order: OrderId,
        variant: VariantId,
        quantity: Pieces,
        reason: Reason,
    ) -> JsonObject:
        """Send goods of a delivered order back, up to 30 days after they arrived.

        What was paid for them is paid back, without shipping. Whoever changed their mind pays
        4.95 for the parcel.

        Args:
            order: The order's id; find_orders gives it.
            variant: The variant's id; show_order gives it.
            quantity: How many pieces.
            reason: Why they are sent back.
        """
        held = self.orders.need(order, ASK_ORDER)
        line = next((line for line in held.lines if line.variant == variant), None)
        if line is None:
            raise NotFound(
                f"{order} has no {variant}; show_order has its lines.", reason="not_in_order"
            )
        name = self.full_name(self.variants[variant])
        status = status_of(held, self.now)
        if status is not Status.DELIVERED:
            raise ToolRefusal(
                f"{order} is {status}; only what was delivered can be sent back.",
                reason="not_delivered",
            )
        if not self.products[self.variants[variant].product].returnable:
            raise ToolRefusal(f"{name} cannot be sent back.", reason="not_returnable")
        last = last_return_day(held).isoformat()
        if self.today > last:
            raise ToolRefusal(
                f"{order} could be sent back until {last}, {RETURN_DAYS} days after it arrived.",
                reason="window_closed",
            )
        before = self.returned(order, variant)
        if before + quantity > line.quantity:
            raise ToolRefusal(
                f"{line.quantity} of {name} were bought and {before} sent back; {quantity} more "
                "are too many.",
                reason="too_many",
                left=line.quantity - before,
            )
        fee = RETURN_FEE if reason == "changed_mind" else 0
        cents = refund(line, before, quantity, fee)
        causes = (order, variant, str(before), str(quantity), reason)
        new = self.new_id("RT-", *causes, taken=self.returns, digits=6)
        self.returns[new] = Return(new, order, variant, quantity, reason, cents, self.stamp)
        self.pay_back(held.payment, cents)
        if reason != "damaged":
            self.move_stock(variant, quantity)
        return {
            "return": new,
            "refund": from_cents(cents),
            "paid_back_to": self.payments[held.payment].label,
        }

    def returned(self, order: str, variant: str) -> int:
        """How many pieces of a line were sent back."""
        return sum(r.quantity for r in self.returns_of(order) if r.variant == variant)

    def returns_of(self, order: str) -> Iterator[Return]:
        """What was sent back of an order."""
        return (back for back in self.returns.values() if back.order == order)

    def _names(self, order: Order) -> list[str]:
        return [self.full_name(self.variants[line.variant]) for line in order.lines]


def _total(order: Order) -> int:
    return total(order.lines, order.shipping + order.shipping_tax)

"""An online shop with one customer signed in."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from orch_env.servers.domains.shopping.cart import CartTools
from orch_env.servers.domains.shopping.catalogue import CatalogueTools
from orch_env.servers.domains.shopping.checkout import CheckoutTools
from orch_env.servers.domains.shopping.orders import OrderTools
from orch_env.servers.domains.shopping.parcels import Status, status_of
from orch_env.servers.domains.shopping.pricing import paid
from orch_env.servers.domains.shopping.records import Order
from orch_env.servers.domains.shopping.wishes import WishTools
from orch_env.servers.domains.shopping.world import fill
from orch_env.servers.framework.chance import Chance


class Shopping(CatalogueTools, WishTools, CartTools, CheckoutTools, OrderTools):
    """An online shop: goods, a cart with coupons, orders, returns and reviews."""

    name = "shopping"
    category = "Commerce"
    epoch = "2025-05-14"

    def populate(self, chance: Chance) -> None:
        """Fill the shop, and give the customer addresses, coupons and past orders."""
        fill(self, chance)

    def invariants(self) -> Iterator[str]:
        """What is always true of the stock, the cart, coupons, refunds and reviews."""
        for variant in self.variants.values():
            if variant.stock < 0:
                yield f"{variant.id} has a stock of {variant.stock}"
        for line in self.cart.values():
            variant = self.variants[line.variant]
            most = min(variant.stock, self.products[variant.product].max_per_order)
            if not 1 <= line.quantity <= most:
                yield f"the cart holds {line.quantity} of {variant.id}, at most {most} can be sold"
        applied = self.applied()
        alone = any(not coupon.combines for coupon in applied)
        if len({bool(c.amount) for c in applied}) < len(applied) or (alone and len(applied) > 1):
            yield f"the coupons {[c.code for c in applied]} are applied together"
        for payment in self.payments.values():
            if payment.balance < 0:
                yield f"{payment.id} has a balance of {payment.balance}"
        yield from self._broken_orders()
        yield from self._broken_reviews()

    def _broken_orders(self) -> Iterator[str]:
        used: set[str] = set()
        for order in self.orders.values():
            for code in () if order.cancelled else order.coupons:
                if code in used:
                    yield f"coupon {code} was used for two orders"
                used.add(code)
            for line in order.lines:
                back = [r for r in self.returns_of(order.id) if r.variant == line.variant]
                if sum(r.quantity for r in back) > line.quantity:
                    yield f"more of {line.variant} was sent back than {order.id} had"
                if sum(r.refund for r in back) > paid(line):
                    yield f"more was paid back for {line.variant} than {order.id} cost"
                if not all(_arrived(order, r.asked_at) for r in back):
                    yield f"goods of {order.id} were sent back before they arrived"

    def _broken_reviews(self) -> Iterator[str]:
        mine = [review for review in self.reviews.values() if review.mine]
        for review in mine:
            variants = self.products[review.product].variants
            orders = [
                o for o in self.orders.values() if any(x.variant in variants for x in o.lines)
            ]
            if sum(other.product == review.product for other in mine) > 1:
                yield f"the customer reviewed {review.product} twice"
            if not any(_arrived(order, review.written_at) for order in orders):
                yield f"the customer reviewed {review.product} before it arrived"


def _arrived(order: Order, by: str) -> bool:
    return status_of(order, datetime.fromisoformat(by)) is Status.DELIVERED

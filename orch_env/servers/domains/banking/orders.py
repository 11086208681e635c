"""Orders: payments that fall due later, once or again and again."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Literal

from orch_env.servers import InvalidArguments, NotFound, Range, ToolRefusal, read, write
from orch_env.servers.domains.banking.books import Books
from orch_env.servers.domains.banking.records import (
    AccountId,
    Amount,
    Date,
    Every,
    Order,
    OrderId,
    OrderState,
    PayeeId,
    Reference,
    SessionId,
)
from orch_env.servers.framework.money import from_cents, to_cents
from orch_env.types.json import JsonObject

LONGEST_WAIT_DAYS = 365


class OrderTools(Books):
    """Scheduled and recurring payments."""

    @write
    def schedule_payment(
        self,
        session: SessionId,
        source: AccountId,
        payee: PayeeId,
        amount: Amount,
        first: Date,
        every: Literal["once", "weekly", "monthly"] = "once",
        until: Date | None = None,
        reference: Reference = "",
    ) -> JsonObject:
        """Order a payment for a later day, once or repeated; it is paid when that day begins.

        Args:
            session: The session; sign_in gives it.
            source: The account that pays; find_account gives its id.
            payee: The payee's id; find_payee gives it.
            amount: How much each time, in the currency of the source.
            first: The day of the first payment, from tomorrow to a year ahead.
            every: How often.
            until: The last day on which it may pay; left out, it goes on until cancelled.
            reference: What the payee reads on their statement.
        """
        customer = self.customer_of(session)
        giver, taker = self.account_of(customer, source), self.payee_of(customer, payee)
        cents = to_cents(amount)
        last = (self.now + timedelta(days=LONGEST_WAIT_DAYS)).date().isoformat()
        if not self.today < first <= last:
            raise InvalidArguments(
                f"The first payment is after {self.today} and not after {last}, not on {first}. "
                "For today use pay_payee.",
                reason="bad_date",
            )
        if until is not None and until < first:
            raise InvalidArguments(
                f"The last day {until} is before the first payment on {first}.", reason="bad_date"
            )
        self.check_route(giver, taker)
        if cents > giver.daily_limit:
            raise ToolRefusal(
                f"Account {source} may pay {from_cents(giver.daily_limit)} a day; order less.",
                reason="daily_limit",
                left=from_cents(giver.daily_limit),
            )
        order = self.new_id(
            "SO-", source, payee, str(cents), first, every, reference, taken=self.orders, digits=6
        )
        self.orders[order] = Order(
            order, customer, source, payee, cents, reference, Every(every), first, first, until
        )
        return {"order": order, "due": first}

    @read
    def find_orders(
        self,
        session: SessionId,
        payee: PayeeId | None = None,
        limit: Annotated[int, Range(1, 20)] = 5,
    ) -> JsonObject:
        """List the customer's orders that will still pay, by due day.

        Args:
            session: The session; sign_in gives it.
            payee: Only orders to this payee; find_payee gives the id.
            limit: How many orders to give at most.
        """
        customer = self.customer_of(session)
        if payee is not None:
            self.payee_of(customer, payee)
        found = [
            o
            for o in self.orders.values()
            if o.customer == customer and o.state is OrderState.ACTIVE and payee in (None, o.payee)
        ]
        found.sort(key=lambda o: (o.due, o.id))
        return {
            "found": len(found),
            "orders": [
                {
                    "order": o.id,
                    "source": o.source,
                    "payee": o.payee,
                    "name": self.payees[o.payee].name,
                    "amount": from_cents(o.cents),
                    "every": o.every,
                    "due": o.due,
                    "until": o.until,
                    "reference": o.reference,
                    "missed": o.missed,
                }
                for o in found[:limit]
            ],
        }

    @write(destructive=True, idempotent=True)
    def cancel_order(self, session: SessionId, order: OrderId) -> JsonObject:
        """Cancel an order, so that it pays no more.

        Args:
            session: The session; sign_in gives it.
            order: The order's id; find_orders gives it.
        """
        customer = self.customer_of(session)
        made = self.orders.get(order)
        if made is None or made.customer != customer:
            raise NotFound(
                f"You have no order {order}; find_orders gives yours.", reason="unknown_order"
            )
        if made.state is not OrderState.ACTIVE:
            raise ToolRefusal(
                f"Order {order} is {made.state} already: it pays no more.", reason="order_over"
            )
        self.orders[order] = replace(made, state=OrderState.CANCELLED)
        return {"order": order, "state": OrderState.CANCELLED}

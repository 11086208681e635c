"""The bank: accounts in four currencies, payees, payments now and later, holds and freezes."""

from __future__ import annotations

from orch_env.servers import Chance
from orch_env.servers.domains.banking import world
from orch_env.servers.domains.banking.accounts import AccountTools
from orch_env.servers.domains.banking.orders import OrderTools
from orch_env.servers.domains.banking.payments import PaymentTools


class Banking(AccountTools, PaymentTools, OrderTools):
    """A bank's customers, their accounts in four currencies, payments now and later."""

    name = "banking"
    category = "Finance"

    def populate(self, chance: Chance) -> None:
        """Fourteen customers with ten weeks of history."""
        world.fill(self, chance)

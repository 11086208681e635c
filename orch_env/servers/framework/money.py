"""Money: whole cents in a state, numbers with at most two decimals in tools."""

from __future__ import annotations

from orch_env.servers.framework.errors import InvalidArguments


def to_cents(amount: float) -> int:
    """An amount in major units (12.5) as cents (1250).

    Raises:
        InvalidArguments: it has more than two decimals.
    """
    if round(amount, 2) != amount:
        raise InvalidArguments(
            f"The amount {amount} has more than two decimals; round it to cents.",
            reason="fraction_of_a_cent",
        )
    return round(amount * 100)


def from_cents(cents: int) -> float:
    """Cents (1250) as an amount in major units (12.5)."""
    return cents / 100

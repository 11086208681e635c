"""The wish list."""

from __future__ import annotations

from orch_env.servers.domains.shopping.records import Name, ShopState, VariantId, Wish
from orch_env.servers.framework.errors import NotFound, ToolRefusal
from orch_env.servers.framework.money import from_cents
from orch_env.servers.framework.server import read, write
from orch_env.types.json import JsonObject

MAX_WISHES = 50
"""Entries of the wish list."""


class WishTools(ShopState):
    """The customer's wish list."""

    @read
    def show_wish_list(self, product: Name | None = None, only_cheaper: bool = False) -> JsonObject:
        """The wish list, with the price then and now.

        Args:
            product: Only products whose name contains this.
            only_cheaper: Only what costs less now than when it was added.
        """
        wanted = (product or "").strip().casefold()
        rows: list[JsonObject] = []
        for wish in self.wishes.values():
            variant = self.variants[wish.variant]
            name, now = self.full_name(variant), self.price(variant)
            if wanted in name.casefold() and (not only_cheaper or now < wish.price_then):
                rows.append(
                    {
                        "variant": variant.id,
                        "name": name,
                        "price_then": from_cents(wish.price_then),
                        "price_now": from_cents(now),
                        "stock": variant.stock,
                    }
                )
        return {"wishes": rows}

    @write(idempotent=True)
    def add_to_wish_list(self, variant: VariantId) -> JsonObject:
        """Remember a variant on the wish list, with today's price.

        Args:
            variant: The variant's id; list_variants gives it.
        """
        held = self.variants.need(variant, "list_variants gives it.")
        if variant in self.wishes:
            raise ToolRefusal(
                f"{self.full_name(held)} is on the wish list already.", reason="already_on_list"
            )
        if len(self.wishes) >= MAX_WISHES:
            raise ToolRefusal(
                f"The wish list is full ({MAX_WISHES}); remove_from_wish_list makes room.",
                reason="wish_list_full",
            )
        price = self.price(held)
        self.wishes[variant] = Wish(variant, price, self.stamp)
        return {"variant": variant, "price": from_cents(price), "wishes": len(self.wishes)}

    @write(destructive=True, idempotent=True)
    def remove_from_wish_list(self, variant: VariantId) -> JsonObject:
        """Take a variant off the wish list.

        Args:
            variant: The variant's id; show_wish_list gives it.
        """
        if variant not in self.wishes:
            raise NotFound(
                f"{variant} is not on the wish list; show_wish_list has what is.",
                reason="not_on_list",
            )
        del self.wishes[variant]
        return {"removed": variant, "wishes": len(self.wishes)}

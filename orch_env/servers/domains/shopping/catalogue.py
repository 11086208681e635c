"""Goods and reviews."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from orch_env.servers.domains.shopping.parcels import Status, status_of
from orch_env.servers.domains.shopping.records import (
    Category,
    Name,
    Offer,
    Product,
    ProductId,
    Review,
    ShopState,
    Variant,
)
from orch_env.servers.framework.arguments import Length, Range
from orch_env.servers.framework.errors import NotFound, ToolRefusal
from orch_env.servers.framework.money import from_cents, to_cents
from orch_env.servers.framework.server import read, write
from orch_env.types.json import JsonObject

ASK_PRODUCT = "find_product and search_products give it."


class CatalogueTools(ShopState):
    """Finding and comparing goods, reading and writing reviews."""

    @read
    def search_products(
        self,
        text: Annotated[str, Length(0, 80)] = "",
        category: Category | None = None,
        brand: Name | None = None,
        max_price: Annotated[float, Range(0, 100_000)] | None = None,
        in_stock: bool = False,
        on_offer: bool = False,
        sort: Literal["name", "price", "stars"] = "name",
        limit: Annotated[int, Range(1, 40)] = 10,
    ) -> JsonObject:
        """Search the shop; says how many products match, and shows the first ones.

        Args:
            text: Words that the product's name must contain, in any order.
            category: Only this category.
            brand: Only this maker, with its whole name.
            max_price: The highest price of the cheapest variant, without tax.
            in_stock: Only products of which a variant is in stock.
            on_offer: Only products that are on offer today.
            sort: By name, by price from the lowest, or by stars from the most.
            limit: How many products to show.
        """
        words = text.casefold().split()
        highest = None if max_price is None else to_cents(max_price)
        found = [
            product
            for product in self.products.values()
            if (category is None or product.category == category)
            and (brand is None or product.brand.casefold() == brand.strip().casefold())
            and all(word in product.name.casefold() for word in words)
            and (highest is None or self.lowest_price(product) <= highest)
            and (not on_offer or self.offer(product))
            and (not in_stock or any(v.stock for v in self.variants_of(product)))
        ]
        stars = self.stars()
        found.sort(key=lambda product: product.name)
        if sort == "price":
            found.sort(key=self.lowest_price)
        elif sort == "stars":
            found.sort(key=lambda product: -stars.get(product.id, 0))
        return {"found": len(found), "products": [self._row(p, stars) for p in found[:limit]]}

    @read
    def find_product(self, name: Name) -> JsonObject:
        """Find one product by its whole name.

        Args:
            name: The product's name, such as "Fennholt Desk Lamp".
        """
        wanted = name.strip().casefold()
        for product in self.products.values():
            if product.name.casefold() == wanted:
                return {
                    **self._row(product, self.stars()),
                    "description": product.description,
                    "returnable": product.returnable,
                    "max_per_order": product.max_per_order,
                    "offer": _offer(self.offer(product)),
                }
        raise NotFound(
            f"No product is called {name!r}. search_products finds products by a part of the name.",
            reason="unknown_product",
        )

    @read
    def list_variants(
        self, product: ProductId, colour: Name | None = None, size: Name | None = None
    ) -> JsonObject:
        """The colours and sizes of a product, with today's price without tax and the stock.

        Args:
            product: The product's id; find_product and search_products give it.
            colour: Only this colour.
            size: Only this size, volume, capacity or edition.
        """
        held = self.products.need(product, ASK_PRODUCT)
        found = [
            variant
            for variant in self.variants_of(held)
            if (colour is None or variant.colour.casefold() == colour.strip().casefold())
            and (size is None or variant.size.casefold() == size.strip().casefold())
        ]
        if not found:
            offered = "; ".join(_choice(v) for v in self.variants_of(held))
            raise NotFound(f"{held.name} comes only as: {offered}.", reason="unknown_variant")
        return {
            "variants": [
                {
                    "variant": variant.id,
                    "colour": variant.colour or None,
                    "size": variant.size or None,
                    "price": from_cents(self.price(variant)),
                    "stock": variant.stock,
                }
                for variant in found
            ]
        }

    @read
    def compare_products(self, products: Annotated[list[ProductId], Length(2, 4)]) -> JsonObject:
        """Compare two to four products: price, stars, weight, stock.

        Args:
            products: The products' ids; find_product and search_products give them.
        """
        if len(set(products)) < len(products):
            raise ToolRefusal(
                "A product stands twice in the comparison; name each one once.",
                reason="repeated_product",
            )
        held = [self.products.need(product, ASK_PRODUCT) for product in products]
        stars = self.stars()
        rows = [
            {
                **self._row(product, stars),
                "weight_g": product.weight_g,
                "pieces_in_stock": sum(v.stock for v in self.variants_of(product)),
                "returnable": product.returnable,
            }
            for product in held
        ]
        best = max(held, key=lambda product: stars.get(product.id, 0))
        return {
            "products": rows,
            "cheapest": min(held, key=self.lowest_price).id,
            "best_rated": best.id if best.id in stars else None,
            "lightest": min(held, key=lambda product: product.weight_g).id,
        }

    @read
    def read_reviews(
        self,
        product: ProductId,
        stars: Annotated[int, Range(1, 5)] | None = None,
        limit: Annotated[int, Range(1, 20)] = 5,
    ) -> JsonObject:
        """What customers wrote about a product, the newest first.

        Args:
            product: The product's id; find_product and search_products give it.
            stars: Only reviews with this many stars.
            limit: How many reviews to show.
        """
        held = self.products.need(product, ASK_PRODUCT)
        found = [
            review
            for review in self.reviews.values()
            if review.product == product and stars in (None, review.stars)
        ]
        found.sort(key=lambda review: (review.written_at, review.id), reverse=True)
        return {
            "product": held.name,
            "stars": self.stars().get(product),
            "found": len(found),
            "reviews": [
                {
                    "review": review.id,
                    "author": review.author,
                    "stars": review.stars,
                    "title": review.title,
                    "text": review.text,
                    "written_on": review.written_at[:10],
                }
                for review in found[:limit]
            ],
        }

    @write(idempotent=True)
    def write_review(
        self,
        product: ProductId,
        stars: Annotated[int, Range(1, 5)],
        title: Name,
        text: Annotated[str, Length(1, 1000)],
    ) -> JsonObject:
        """Review a product that was delivered to this customer; once a product.

        Args:
            product: The product's id; find_product and search_products give it.
            stars: From 1, poor, to 5, excellent.
            title: The review in a few words.
            text: The review.
        """
        held = self.products.need(product, ASK_PRODUCT)
        ordered = [
            status_of(order, self.now)
            for order in self.orders.values()
            if any(line.variant in held.variants for line in order.lines)
        ]
        if Status.DELIVERED not in ordered:
            waits = any(status is not Status.CANCELLED for status in ordered)
            raise ToolRefusal(
                f"{held.name} was not delivered yet; review it when it has arrived."
                if waits
                else f"You never bought {held.name}; only buyers review it.",
                reason="not_delivered" if waits else "not_bought",
            )
        for review in self.reviews.values():
            if review.mine and review.product == product:
                raise ToolRefusal(
                    f"You reviewed {held.name} already.",
                    reason="already_reviewed",
                    review=review.id,
                )
        new = self.new_id("RV-", product, taken=self.reviews, digits=6)
        self.reviews[new] = Review(new, product, "you", True, stars, title, text, self.stamp)
        return {"review": new, "product_stars": self.stars()[product]}

    def variants_of(self, product: Product) -> Iterator[Variant]:
        """The variants of a product in the shop's order."""
        return (self.variants[variant] for variant in product.variants)

    def lowest_price(self, product: Product) -> int:
        """Today's price of the cheapest variant."""
        return min(self.price(variant) for variant in self.variants_of(product))

    def stars(self) -> dict[str, float]:
        """Product -> the mean of its reviews' stars with one decimal, for those with a review."""
        given: dict[str, list[int]] = {}
        for review in self.reviews.values():
            given.setdefault(review.product, []).append(review.stars)
        return {
            product: (20 * sum(marks) + len(marks)) // (2 * len(marks)) / 10
            for product, marks in given.items()
        }

    def _row(self, product: Product, stars: dict[str, float]) -> JsonObject:
        return {
            "product": product.id,
            "name": product.name,
            "brand": product.brand,
            "category": product.category,
            "price_from": from_cents(self.lowest_price(product)),
            "stars": stars.get(product.id),
            "on_offer": self.offer(product) is not None,
        }


def _choice(variant: Variant) -> str:
    return ", ".join(part for part in (variant.colour, variant.size) if part) or "one variant"


def _offer(offer: Offer | None) -> JsonObject | None:
    return None if offer is None else {"percent_off": offer.percent, "until": offer.last}

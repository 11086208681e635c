"""A shop on one morning: what it sells, and a customer with addresses, coupons and past orders."""

from __future__ import annotations

from datetime import datetime, timedelta

from orch_env.servers.domains.shopping.priced_cart import PricedCart
from orch_env.servers.domains.shopping.pricing import quote, refund
from orch_env.servers.domains.shopping.records import (
    METHODS,
    REGIONS,
    Address,
    CartCoupon,
    CartLine,
    Coupon,
    Offer,
    Order,
    Payment,
    PaymentKind,
    Product,
    Rate,
    Return,
    Review,
    Variant,
    Wish,
    percent_of,
)
from orch_env.servers.framework.chance import Chance, words

COLOURS = ("black", "blue", "green", "grey", "orange", "red", "sand", "white", "yellow")
COUPON_WORDS = (
    "BONUS", "FRIEND", "GARDEN", "HELLO", "LUCKY", "MAYDAY", "SPRING", "SUNNY", "THANKS", "WELCOME"
)  # fmt: skip
NO_EXPRESS = ("Ireland", "Switzerland")
WITH_PARCEL_SHOPS = ("Austria", "Belgium", "France", "Germany", "Netherlands")

PLACED = (
    *[(1, 1)] * 2,  # yesterday evening: not yet packed
    *[(2, 3)] * 2,  # on their way
    *[(9, 27)] * 7,  # delivered, and still to be sent back
    *[(60, 150)] * 4,  # delivered long ago
)
"""For each past order between how many and how many days ago it was placed."""


def fill(shop: PricedCart, chance: Chance) -> None:
    """Make the world of a seed."""
    _add_goods(shop, chance)
    _add_reviews(shop, chance)
    _add_rates(shop, chance)
    card = _add_customer(shop, chance)
    applied, used = _add_coupons(shop, chance)
    _add_orders(shop, chance, card, used)
    _add_own_reviews_and_returns(shop, chance)
    _add_wishes(shop, chance)
    _add_cart(shop, chance, applied)


def _rows(name: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in words(name)]


def _ago(shop: PricedCart, days: int, hour: int = 0, minute: int = 0) -> datetime:
    day = shop.now - timedelta(days=days)
    return datetime(day.year, day.month, day.day, hour, minute)


def _day(shop: PricedCart, days: int) -> str:
    """The date so many days from now."""
    return _ago(shop, -days).date().isoformat()


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="minutes")


def _add_goods(shop: PricedCart, chance: Chance) -> None:
    brands = _rows("shop_brands")
    for category, kind, prices, grams, sizes, colours, description in _rows("shop_goods"):
        makers = [brand for brand, sold in brands if category in sold.split(", ")]
        low, high = map(int, prices.split("-"))
        for brand in chance.draw(makers, 1 if category == "Books" or chance.often(0.5) else 2):
            product = chance.id("PR-", 5, shop.products)
            base = 100 * chance.between(low, high) - 10 * chance.between(1, 5)
            variants: list[Variant] = []
            for colour in chance.draw(COLOURS, chance.between(2, 3)) if colours != "-" else [""]:
                for n, size in enumerate(sizes.split(", ")):
                    larger = 0 if category == "Clothing" else percent_of(base, 30 * n)
                    variant = Variant(
                        id=chance.id("SK-", 6, shop.variants),
                        product=product,
                        colour=colour,
                        size="" if size == "-" else size,
                        list_price=base + larger,
                        stock=_stock(chance),
                    )
                    shop.variants[variant.id] = variant
                    variants.append(variant)
            shop.products[product] = Product(
                id=product,
                name=kind if category == "Books" else f"{brand} {kind}",
                brand=brand,
                category=category,
                description=description,
                weight_g=int(grams),
                returnable=category != "Pantry" and not chance.often(0.1),
                max_per_order=chance.between(2, 4) if chance.often(0.25) else 20,
                offers=_offers(shop, chance),
                variants=tuple(variant.id for variant in variants),
            )


def _stock(chance: Chance) -> int:
    if chance.often(0.12):
        return 0
    return chance.between(1, 3) if chance.often(0.2) else chance.between(5, 40)


def _offers(shop: PricedCart, chance: Chance) -> tuple[Offer, ...]:
    """Past, present and future offers of one product, which do not overlap."""
    spans = [
        (chance.often(0.4), -chance.between(90, 130), -chance.between(40, 80)),
        (chance.often(0.3), -chance.between(2, 20), chance.between(3, 20)),
        (chance.often(0.1), chance.between(25, 30), chance.between(35, 50)),
    ]
    return tuple(
        Offer(chance.pick((10, 15, 20, 25, 30)), _day(shop, first), _day(shop, last))
        for given, first, last in spans
        if given
    )


def _add_reviews(shop: PricedCart, chance: Chance) -> None:
    rows = _rows("shop_reviews")
    for product in shop.products:
        for stars, title, text in chance.draw(rows, chance.between(0, 3)):
            review = chance.id("RV-", 6, shop.reviews)
            author = f"{chance.pick(words('first_names'))} {chance.pick(words('surnames'))[0]}."
            written = _ago(shop, chance.between(3, 400), chance.between(7, 22))
            shop.reviews[review] = Review(
                review, product, author, False, int(stars), title, text, _stamp(written)
            )


def _add_rates(shop: PricedCart, chance: Chance) -> None:
    for region in REGIONS:
        for method in METHODS:
            rate = Rate(
                id=f"{method}-{region}",
                region=region,
                method=method,
                base=10 * chance.between(39, 69),
                per_kg=10 * chance.between(6, 12),
                max_weight_g=30_000,
                days=chance.between(3, 5),
                free_from=500 * chance.between(12, 60),
            )
            if method == "express":
                if region in NO_EXPRESS:
                    continue
                rate = Rate(
                    id=rate.id,
                    region=region,
                    method=method,
                    base=2 * rate.base,
                    per_kg=2 * rate.per_kg,
                    max_weight_g=10_000,
                    days=1,
                    free_from=None,
                )
            elif method == "parcel_shop":
                if region not in WITH_PARCEL_SHOPS:
                    continue
                rate = Rate(
                    id=rate.id,
                    region=region,
                    method=method,
                    base=rate.base - 150,
                    per_kg=rate.per_kg,
                    max_weight_g=1000 * chance.between(5, 8),
                    days=4,
                    free_from=500 * chance.between(6, 50),
                )
            shop.rates[rate.id] = rate


def _add_customer(shop: PricedCart, chance: Chance) -> str:
    """Add addresses and ways to pay; returns the card that is used most."""
    first, other, friend = chance.draw(words("first_names"), 3)
    surname, friends_name = chance.draw(words("surnames"), 2)
    towns = chance.shuffled(_rows("shop_towns"))
    home = towns[0]
    abroad = [town for town in towns if town[0] != home[0]]
    near = next(town for town in towns[1:] if town[0] == home[0])
    for label, recipient, (region, town, postcode) in (
        ("home", f"{first} {surname}", home),
        ("work", f"{first} {surname}", near),
        ("parents", f"{other} {surname}", abroad[0]),
        ("holiday flat", f"{friend} {friends_name}", abroad[1]),
    ):
        new = chance.id("AD-", 4, shop.addresses)
        street = f"{chance.pick(words('streets'))} {chance.between(1, 120)}"
        shop.addresses[new] = Address(new, label, recipient, street, postcode, town, region)
    main, second = chance.draw(("blue card", "silver card", "joint card", "travel card"), 2)
    for label, kind, expires, limit, balance in (
        (main, PaymentKind.CARD, f"202{chance.between(6, 8)}-{chance.between(1, 12):02d}",
         10_000 * chance.between(20, 30), 0),
        (second, PaymentKind.CARD, f"2025-{chance.between(1, 4):02d}", 200_000, 0),
        ("company card", PaymentKind.CARD, f"202{chance.between(6, 8)}-{chance.between(1, 12):02d}",
         1000 * chance.between(6, 12), 0),
        ("gift card", PaymentKind.GIFT_CARD, "", 0, 100 * chance.between(15, 60)),
        ("invoice", PaymentKind.INVOICE, "", 10_000 * chance.between(3, 6), 0),
    ):  # fmt: skip
        new = chance.id("PM-", 4, shop.payments)
        shop.payments[new] = Payment(new, label, kind, expires, limit, balance)
    return next(payment.id for payment in shop.payments.values() if payment.label == main)


def _add_coupons(shop: PricedCart, chance: Chance) -> tuple[str, str]:
    """Add coupons; returns the one for the cart and the one that a past order used."""
    two = tuple(sorted(chance.draw(("Clothing", "Electronics", "Kitchen", "Outdoor", "Toys"), 2)))
    low, mid, high = (chance.pick((10, 15)), chance.pick((12, 20)), chance.pick((25, 30)))
    five, ten, big = (chance.pick((5, 6, 8)), chance.pick((10, 12)), chance.pick((20, 25)))
    soon, late = chance.between(5, 20), chance.between(21, 60)
    # percent, amount, minimum, categories, covers offers, combines, first and last day from now
    kinds: list[tuple[int, int, int, tuple[str, ...], bool, bool, int, int]] = [
        (low, 0, 0, (), False, True, -200, soon),
        (mid, 0, 20, two, True, True, -30, late),
        (high, 0, 250, (), False, False, -30, late),
        (0, five, 30, (), True, True, -60, soon),
        (0, ten, 60, two, True, True, -30, late),
        (0, big, 120, (), True, False, -90, late),
        (low, 0, 0, (), True, True, -90, -chance.between(2, 30)),
        (0, five, 0, (), True, True, soon, late + 30),
        (low, 0, 0, (), True, True, -250, late),
    ]
    texts = chance.draw(COUPON_WORDS, len(kinds))
    codes = [f"{text}{kind[0] or kind[1]}" for text, kind in zip(texts, kinds, strict=True)]
    for code, (percent, amount, minimum, only, offers, combines, first, last) in zip(
        codes, kinds, strict=True
    ):
        shop.coupons[code] = Coupon(
            code=code,
            percent=percent,
            amount=100 * amount,
            minimum=100 * minimum,
            categories=only,
            covers_offers=offers,
            combines=combines,
            first=_day(shop, first),
            last=_day(shop, last),
        )
    return codes[0], codes[-1]


def _add_orders(shop: PricedCart, chance: Chance, card: str, used: str) -> None:
    """Past orders on different dates; no two of them have a product in common."""
    left = chance.shuffled(list(shop.products.values()))
    dates: set[int] = set()
    for n, (latest, earliest) in enumerate(PLACED):
        days = chance.between(latest, earliest)
        while days in dates and latest > 1:
            days = chance.between(latest, earliest)
        dates.add(days)
        # An order of yesterday evening goes out tonight; one of two days ago went out by then.
        hour = chance.between(15, 21) if latest == 1 else chance.between(8, 13)
        placed = _ago(shop, days, hour, chance.between(0, 59))
        goods = [left.pop() for _ in range(chance.pick((1, 1, 2, 2, 3)))]
        if n == len(PLACED) - 5:  # a delivered order with something that cannot be sent back
            goods.append(next(product for product in left if not product.returnable))
            left.remove(goods[-1])
        items = [
            shop.item(
                chance.pick(product.variants),
                chance.between(1, min(3, product.max_per_order)),
                placed.date().isoformat(),
            )
            for product in goods
        ]
        address = chance.pick(list(shop.addresses.values()))
        rate = shop.rates[f"standard-{address.region}"]
        coupons = [shop.coupons[used]] if n == len(PLACED) - 1 else []
        priced = quote(items, coupons, rate)
        order = chance.id("OR-", 7, shop.orders)
        shop.orders[order] = Order(
            id=order,
            lines=priced.lines,
            coupons=tuple(coupon.code for coupon in coupons),
            address=address.id,
            payment=card,
            method=rate.method,
            days=rate.days,
            shipping=priced.shipping,
            shipping_tax=priced.shipping_tax,
            placed_at=_stamp(placed),
            cancelled=n in (6, 7),
        )


def _add_own_reviews_and_returns(shop: PricedCart, chance: Chance) -> None:
    standing = [order for order in shop.orders.values() if not order.cancelled]
    standing.sort(key=lambda order: order.placed_at)
    for order in standing[:2]:
        product = shop.variants[order.lines[0].variant].product
        stars, title, text = chance.pick(_rows("shop_reviews"))
        review = chance.id("RV-", 6, shop.reviews)
        written = datetime.fromisoformat(order.placed_at) + timedelta(days=20)
        shop.reviews[review] = Review(
            review, product, "you", True, int(stars), title, text, _stamp(written)
        )
    order = standing[4]
    line = order.lines[0]
    back = chance.id("RT-", 6, shop.returns)
    asked = datetime.fromisoformat(order.placed_at) + timedelta(days=10)
    cents = refund(line, 0, 1, 0)
    shop.returns[back] = Return(back, order.id, line.variant, 1, "wrong_item", cents, _stamp(asked))


def _add_wishes(shop: PricedCart, chance: Chance) -> None:
    """Six wishes of different products, of which two became cheaper."""
    ordered = {line.variant for order in shop.orders.values() for line in order.lines}
    free = [p for p in shop.products.values() if not ordered.intersection(p.variants)]
    cheaper = [p for p in free if shop.offer(p)]
    others = [p for p in free if not shop.offer(p)]
    for product in chance.draw(cheaper, 2) + chance.draw(others, 4):
        variant = chance.pick(product.variants)
        days = chance.between(22, 38)
        added = _ago(shop, days, chance.between(8, 21))
        price = shop.price(shop.variants[variant], added.date().isoformat())
        shop.wishes[variant] = Wish(variant, price, _stamp(added))


def _add_cart(shop: PricedCart, chance: Chance, coupon: str) -> None:
    """Two lines, together worth more than 150, of which the first is not on offer."""
    known = {line.variant for order in shop.orders.values() for line in order.lines}
    known |= set(shop.wishes)
    light = [
        variant
        for variant in shop.variants.values()
        if variant.stock >= 5
        and shop.products[variant.product].weight_g <= 1500
        and shop.products[variant.product].max_per_order >= 4
        and not known.intersection(shop.products[variant.product].variants)
    ]
    full_price = [v for v in light if not shop.offer(shop.products[v.product])]
    dear = [v for v in full_price if v.list_price >= 7500]
    first = chance.pick(dear or [max(full_price, key=lambda v: v.list_price)])
    others = [v for v in light if v.product != first.product and 1000 <= v.list_price <= 5000]
    second = chance.pick(others)
    enough = max(2, -(-15_000 // first.list_price))
    for variant, quantity in ((first, enough), (second, chance.between(1, 2))):
        shop.cart[variant.id] = CartLine(variant.id, quantity)
    shop.cart_coupons[coupon] = CartCoupon(coupon)

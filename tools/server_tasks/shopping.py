"""Natural requests to the shop, and short ways into each of its refusals."""

from __future__ import annotations

from orch_env.servers import Chance
from orch_env.servers.domains.shopping import Shopping
from orch_env.servers.domains.shopping.parcels import Status, last_return_day, status_of
from orch_env.servers.domains.shopping.records import (
    CATEGORIES,
    Coupon,
    Order,
    OrderLine,
    Payment,
    PaymentKind,
    Product,
    Variant,
)
from tools.server_tasks.chains import Call, Chain, call, chain, out, refusal, together

SHIPPING = {
    "standard": "standard shipping",
    "express": "express shipping",
    "parcel_shop": "shipping to a parcel shop",
}


# -- what requests speak of --------------------------------------------------------------------


def said(shop: Shopping, variant: Variant) -> str:
    """A variant as a person names it: ``Lindmoor Rain Jacket in blue, M``."""
    name = shop.products[variant.product].name
    colour = f" in {variant.colour}" if variant.colour else ""
    return f"{name}{colour}" + (f", {variant.size}" if variant.size else "")


def some_variant(shop: Shopping, chance: Chance, pieces: int = 1) -> Variant | None:
    """A variant of which so many can be bought, and which is neither in the cart nor wished."""
    variant = chance.pick(list(shop.variants.values()))
    most = min(variant.stock, shop.products[variant.product].max_per_order)
    known = variant.id in shop.cart or variant.id in shop.wishes
    return None if pieces > most or known else variant


def look_up(shop: Shopping, variant: Variant) -> tuple[Call, Call]:
    """The two calls that find a variant: the product, then its one row."""
    wanted = {"product": out(0, "/product"), "colour": variant.colour, "size": variant.size}
    return (
        call("find_product", name=shop.products[variant.product].name),
        Call("list_variants", {name: value for name, value in wanted.items() if value}),
    )


FOUND = "/variants/0/variant"
"""The variant in the result of the second call of :func:`look_up`."""


def label_and_method(shop: Shopping, chance: Chance) -> tuple[str, str] | None:
    """An address by its label, and a shipping method that takes the cart there."""
    address = chance.pick(list(shop.addresses.values()))
    method = chance.pick(list(SHIPPING))
    rate = shop.rates.get(f"{method}-{address.region}")
    weight = sum(item.weight_g * item.quantity for item in shop.items())
    return None if rate is None or weight > rate.max_weight_g else (address.label, method)


def main_card(shop: Shopping) -> Payment:
    """The card that pays for anything that the requests here order."""
    return max(
        (p for p in shop.payments.values() if p.expires >= shop.today[:7]), key=lambda p: p.limit
    )


def some_line(
    shop: Shopping, chance: Chance, *statuses: Status, days: range | None = None
) -> tuple[Order, OrderLine] | None:
    """A line of a past order that stands at one of these steps.

    Args:
        shop: the shop.
        chance: draws the order and the line.
        statuses: the steps.
        days: how many days the goods can still be sent back; ``None`` for any number.
    """
    order = chance.pick(list(shop.orders.values()))
    if status_of(order, shop.now) not in statuses:
        return None
    if days is not None and (last_return_day(order) - shop.now.date()).days not in days:
        return None
    return order, chance.pick(order.lines)


def product_of(shop: Shopping, line: OrderLine) -> Product:
    """The product of an order's line."""
    return shop.products[shop.variants[line.variant].product]


def line_number(order: Order, line: OrderLine) -> int:
    """The number of a line in its order, from 0."""
    return order.lines.index(line)


# -- requests ----------------------------------------------------------------------------------


@chain("remember")
def remember(shop: Shopping, chance: Chance) -> Chain | None:
    """Put something on the wish list."""
    variant = some_variant(shop, chance, 0)
    if variant is None:
        return None
    thing = said(shop, variant)
    return Chain(
        chance.pick(
            (
                f"Please put the {thing} on my wish list.",
                f"I don't want to forget the {thing}: add it to my wish list.",
            )
        ),
        *look_up(shop, variant),
        call("add_to_wish_list", variant=out(1, FOUND)),
    )


@chain("forget_a_wish")
def forget_a_wish(shop: Shopping, chance: Chance) -> Chain | None:
    """Take something off the wish list."""
    wish = chance.pick(list(shop.wishes.values()))
    name = shop.products[shop.variants[wish.variant].product].name
    return Chain(
        chance.pick(
            (
                f"I got the {name} as a present. Take it off my wish list.",
                f"The {name} on my wish list can go, I no longer want it.",
            )
        ),
        call("show_wish_list", product=name),
        call("remove_from_wish_list", variant=out(0, "/wishes/0/variant")),
    )


@chain("add_goods")
def add_goods(shop: Shopping, chance: Chance) -> Chain | None:
    """Put some pieces of a variant into the cart."""
    quantity = chance.between(1, 4)
    variant = some_variant(shop, chance, quantity)
    if variant is None:
        return None
    return Chain(
        chance.pick(
            (
                f"Add {quantity} x {said(shop, variant)} to my cart.",
                f"I need {quantity} of the {said(shop, variant)}, please put them into the cart.",
            )
        ),
        *look_up(shop, variant),
        call("add_to_cart", variant=out(1, FOUND), quantity=quantity),
    )


@chain("order_a_wish")
def order_a_wish(shop: Shopping, chance: Chance) -> Chain | None:
    """Add a wish to the cart and order everything."""
    wish = chance.pick(list(shop.wishes.values()))
    variant = shop.variants[wish.variant]
    address = chance.pick(list(shop.addresses.values()))
    if not variant.stock:
        return None
    card, name = main_card(shop), shop.products[variant.product].name
    return Chain(
        chance.pick(
            (
                f"Put the {name} from my wish list into my cart as well and order everything in "
                f"it: to my {address.label!r} address, standard shipping, paid with the "
                f"{card.label}.",
                f"I'd like to order now: my cart plus the {name} that I have on my wish list. "
                f"Standard shipping to {address.label!r}, on the {card.label}. What is the total?",
            )
        ),
        call("show_wish_list", product=name),
        call("add_to_cart", variant=out(0, "/wishes/0/variant"), quantity=1),
        together(
            call("list_addresses", label=address.label),
            call("list_payments", label=card.label),
        ),
        call(
            "check_out",
            after=(1,),
            address=out(2, "/addresses/0/address"),
            shipping="standard",
            payment=out(3, "/payments/0/payment"),
        ),
        answer=out(4, "/total"),
    )


@chain("order_the_cart")
def order_the_cart(shop: Shopping, chance: Chance) -> Chain | None:
    """Order the cart as it is."""
    way = label_and_method(shop, chance)
    if way is None:
        return None
    label, method = way
    card = main_card(shop)
    return Chain(
        chance.pick(
            (
                f"Order what is in my cart with {SHIPPING[method]} to {label!r} and charge the "
                f"{card.label}. When does it arrive?",
                f"Check out my cart: address {label!r}, {SHIPPING[method]}, {card.label}. Tell me "
                "the day of delivery.",
            )
        ),
        together(
            call("list_addresses", label=label),
            call("list_payments", label=card.label),
        ),
        call(
            "check_out",
            address=out(0, "/addresses/0/address"),
            shipping=method,
            payment=out(1, "/payments/0/payment"),
        ),
        answer=out(2, "/arrives_on"),
    )


@chain("fastest_way")
def fastest_way(shop: Shopping, chance: Chance) -> Chain | None:
    """Order the cart by the shipping method that arrives first."""
    address = chance.pick(list(shop.addresses.values()))
    options = shop.shipping_options(address.id)["options"]
    if any(option["too_heavy"] for option in options) or len(options) < 2:
        return None
    days = [option["arrives_on"] for option in options]
    if days.count(min(days)) > 1:
        return None
    card = main_card(shop)
    return Chain(
        chance.pick(
            (
                f"Send my cart to {address.label!r} by whichever shipping arrives first, and pay "
                f"with the {card.label}. What do I pay in all?",
                f"I need what is in my cart at {address.label!r} as soon as possible. Order it "
                f"the fastest way on the {card.label} and tell me the total.",
            )
        ),
        together(
            call("list_addresses", label=address.label),
            call("list_payments", label=card.label),
        ),
        call("shipping_options", address=out(0, "/addresses/0/address")),
        call(
            "check_out",
            address=out(0, "/addresses/0/address"),
            shipping=out(2, f"/options/{days.index(min(days))}/shipping"),
            payment=out(1, "/payments/0/payment"),
        ),
        answer=out(3, "/total"),
    )


@chain("price_of_the_cart")
def price_of_the_cart(shop: Shopping, chance: Chance) -> Chain | None:
    """Ask what the cart costs, delivered."""
    way = label_and_method(shop, chance)
    if way is None:
        return None
    label, method = way
    return Chain(
        chance.pick(
            (
                f"What would my cart cost in all, sent to {label!r} with {SHIPPING[method]}?",
                f"With tax and {SHIPPING[method]} to {label!r}, what does my cart come to?",
            )
        ),
        call("list_addresses", label=label),
        call("show_cart", address=out(0, "/addresses/0/address"), shipping=method),
        answer=out(1, "/total"),
    )


@chain("another_quantity")
def another_quantity(shop: Shopping, chance: Chance) -> Chain | None:
    """Change how many of something are in the cart."""
    lines = list(shop.cart.values())
    place = chance.between(0, len(lines) - 1)
    quantity = chance.between(0, 4)
    if quantity == lines[place].quantity:
        return None
    name = said(shop, shop.variants[lines[place].variant])
    return Chain(
        chance.pick(
            (
                f"Change the {name} in my cart to {quantity} in all.",
                f"Of the {name} in my cart I want {quantity}, no more and no less.",
            )
        )
        if quantity
        else f"I don't need the {name} after all, take it out of my cart.",
        call("show_cart"),
        call("set_quantity", variant=out(0, f"/lines/{place}/variant"), quantity=quantity),
    )


@chain("another_coupon")
def another_coupon(shop: Shopping, chance: Chance) -> Chain | None:
    """Replace the coupon on the cart."""
    applied = next(iter(shop.cart_coupons))
    coupon = chance.pick(list(shop.coupons.values()))
    if coupon.code == applied or shop.refusal_of(coupon, shop.items()):
        return None
    return Chain(
        chance.pick(
            (
                f"Use my coupon {coupon.code} for the cart in place of the one that is on it. What "
                "do the goods cost then?",
                f"Swap the coupon on my cart for {coupon.code} and tell me the new price of the "
                "goods.",
            )
        ),
        call("show_cart"),
        call("remove_coupon", code=out(0, "/coupons/0/code")),
        call("apply_coupon", after=(1,), code=coupon.code),
        answer=out(2, "/goods"),
    )


@chain("best_coupon")
def best_coupon(shop: Shopping, chance: Chance) -> Chain | None:
    """Add the coupon that takes off most beside the one that is on the cart."""
    amounts = [coupon["amount_off"] for coupon in shop.list_coupons(usable=True)["coupons"]]
    if None in amounts or not amounts or amounts.count(max(amounts)) > 1:
        return None
    return Chain(
        chance.pick(
            (
                "Which of my coupons can still be added to my cart? Apply the one that takes off "
                "most.",
                "Can I save more on my cart with another coupon on top? Take the best one.",
            )
        ),
        call("list_coupons", usable=True),
        call("apply_coupon", code=out(0, f"/coupons/{amounts.index(max(amounts))}/code")),
        answer=out(1, "/discount"),
    )


@chain("goods_with_coupon")
def goods_with_coupon(shop: Shopping, chance: Chance) -> Chain | None:
    """Add goods and a fixed coupon."""
    variant = some_variant(shop, chance)
    coupon = chance.pick(list(shop.coupons.values()))
    if variant is None or not coupon.combines or not coupon.amount:
        return None
    if shop.refusal_of(coupon, shop.items()):
        return None
    return Chain(
        chance.pick(
            (
                f"Add one {said(shop, variant)} to my cart and use {coupon.code} on top of the "
                "coupon that is there. What do all the goods cost now?",
                f"One {said(shop, variant)} more for my cart, please. Then apply {coupon.code} as "
                "well and give me the price of the goods.",
            )
        ),
        *look_up(shop, variant),
        call("add_to_cart", variant=out(1, FOUND), quantity=1),
        call("apply_coupon", after=(2,), code=coupon.code),
        answer=out(3, "/goods"),
    )


@chain("which_is_cheaper")
def which_is_cheaper(shop: Shopping, chance: Chance) -> Chain | None:
    """Compare two products of one category and look at the cheaper one."""
    one, other = chance.draw(list(shop.products.values()), 2)
    same = one.category == other.category and shop.lowest_price(one) != shop.lowest_price(other)
    if not same:
        return None
    return Chain(
        chance.pick(
            (
                f"Which is cheaper, the {one.name} or the {other.name}? Show me what the cheaper "
                "one comes in.",
                f"I am torn between the {one.name} and the {other.name}. Compare them and list "
                "the variants of the one that costs less.",
            )
        ),
        together(call("find_product", name=one.name), call("find_product", name=other.name)),
        call("compare_products", products=[out(0, "/product"), out(1, "/product")]),
        call("list_variants", product=out(2, "/cheapest")),
    )


@chain("what_buyers_say")
def what_buyers_say(shop: Shopping, chance: Chance) -> Chain | None:
    """Compare two products and read about the one that buyers like more."""
    one, other = chance.draw(list(shop.products.values()), 2)
    stars = shop.stars()
    known = stars.get(one.id, 0.0), stars.get(other.id, 0.0)
    if one.category != other.category or 0.0 in known or known[0] == known[1]:
        return None
    return Chain(
        chance.pick(
            (
                f"Do buyers prefer the {one.name} or the {other.name}? Read me what they say "
                "about the better one.",
                f"Compare the {one.name} with the {other.name} and show me the reviews of the one "
                "with more stars.",
            )
        ),
        together(call("find_product", name=one.name), call("find_product", name=other.name)),
        call("compare_products", products=[out(0, "/product"), out(1, "/product")]),
        call("read_reviews", product=out(2, "/best_rated")),
        answer=out(3, "/stars"),
    )


@chain("cheapest_of_a_category")
def cheapest_of_a_category(shop: Shopping, chance: Chance) -> Chain | None:
    """Find the cheapest thing of a category that is in stock, and its variants."""
    category = chance.pick(CATEGORIES)
    found = shop.search_products(category=category, in_stock=True, sort="price")["products"]
    if len(found) < 2 or found[0]["price_from"] == found[1]["price_from"]:
        return None
    return Chain(
        chance.pick(
            (
                f"What is the cheapest thing in {category} that you have in stock, and which "
                "variants are there?",
                f"Show me the variants of the cheapest product in {category} that is in stock.",
            )
        ),
        call("search_products", category=category, in_stock=True, sort="price", limit=1),
        call("list_variants", product=out(0, "/products/0/product")),
    )


@chain("say_what_you_think")
def say_what_you_think(shop: Shopping, chance: Chance) -> Chain | None:
    """Review something that was delivered."""
    found = some_line(shop, chance, Status.DELIVERED)
    if found is None:
        return None
    product = product_of(shop, found[1])
    if any(review.mine and review.product == product.id for review in shop.reviews.values()):
        return None
    stars, title, text = chance.pick(
        (
            (5, "Would buy again", "Arrived quickly and does exactly what I need."),
            (4, "Good", "Well made, only the box was damaged."),
            (2, "Not what I expected", "It looked larger in the picture."),
        )
    )
    return Chain(
        chance.pick(
            (
                f"Please leave a review of the {product.name}: {stars} stars, title {title!r}, "
                f"text {text!r}",
                f"Rate the {product.name} with {stars} stars. Headline: {title!r}. Below it: "
                f"{text!r}",
            )
        ),
        call("find_product", name=product.name),
        call("write_review", product=out(0, "/product"), stars=stars, title=title, text=text),
    )


@chain("stop_an_order")
def stop_an_order(shop: Shopping, chance: Chance) -> Chain | None:
    """Cancel an order that was not shipped yet."""
    found = some_line(shop, chance, Status.PLACED)
    if found is None:
        return None
    name = product_of(shop, found[1]).name
    return Chain(
        chance.pick(
            (
                f"Cancel my order with the {name}. How much do I get back?",
                f"I changed my mind about the order that has the {name} in it. Cancel it and tell "
                "me the refund.",
            )
        ),
        call("find_orders", product=name),
        call("call_off_order", order=out(0, "/orders/0/order")),
        answer=out(1, "/refund"),
    )


REASONS = {
    "changed_mind": "I simply changed my mind",
    "damaged": "it came damaged",
    "wrong_item": "it is not what I ordered",
}


@chain("send_back")
def send_back(shop: Shopping, chance: Chance) -> Chain | None:
    """Send back one piece of a delivered order."""
    found = some_line(shop, chance, Status.DELIVERED, days=range(0, 31))
    if found is None:
        return None
    order, line = found
    product = product_of(shop, line)
    if not product.returnable or shop.returned(order.id, line.variant):
        return None
    reason = chance.pick(list(REASONS))
    return Chain(
        chance.pick(
            (
                f"I want to send back one {product.name} that I bought; {REASONS[reason]}. What "
                "will I be paid back?",
                f"Please return one {product.name} for me: {REASONS[reason]}. Tell me the refund.",
            )
        ),
        call("find_orders", product=product.name),
        call("show_order", order=out(0, "/orders/0/order")),
        call(
            "return_items",
            order=out(0, "/orders/0/order"),
            variant=out(1, f"/lines/{line_number(order, line)}/variant"),
            quantity=1,
            reason=reason,
        ),
        answer=out(2, "/refund"),
    )


@chain("buy_again")
def buy_again(shop: Shopping, chance: Chance) -> Chain | None:
    """Put what was bought once into the cart again."""
    found = some_line(shop, chance, Status.DELIVERED, Status.SHIPPED)
    if found is None:
        return None
    order, line = found
    product = product_of(shop, line)
    if not shop.variants[line.variant].stock:
        return None
    return Chain(
        chance.pick(
            (
                f"Put another {product.name} into my cart, exactly the one of last time.",
                f"I'd like one more {product.name}, the same as in my earlier order. Into the "
                "cart, please.",
            )
        ),
        call("find_orders", product=product.name),
        call("show_order", order=out(0, "/orders/0/order")),
        call(
            "add_to_cart",
            variant=out(1, f"/lines/{line_number(order, line)}/variant"),
            quantity=1,
        ),
    )


@chain("to_a_new_address")
def to_a_new_address(shop: Shopping, chance: Chance) -> Chain | None:
    """Add an address and order the cart to it."""
    label, street, postcode, town, region = chance.pick(
        (
            ("studio", "Market Lane 14", "8011", "Graz", "Austria"),
            ("summer house", "Dune Road 3", "5000", "Odense", "Denmark"),
            ("new flat", "Station Street 71", "04107", "Leipzig", "Germany"),
        )
    )
    recipient = next(iter(shop.addresses.values())).recipient
    card = main_card(shop)
    return Chain(
        chance.pick(
            (
                f"Save a new address {label!r}: {recipient}, {street}, {postcode} {town}, "
                f"{region}. Then order my cart there with standard shipping, on the {card.label}.",
                f"My cart shall go to a new place, standard shipping, paid with the {card.label}. "
                f"Call it {label!r}: {recipient}, {street}, {postcode} {town}, {region}. What is "
                "the total?",
            )
        ),
        together(
            call(
                "add_address",
                label=label,
                recipient=recipient,
                street=street,
                postcode=postcode,
                town=town,
                region=region,
            ),
            call("list_payments", label=card.label),
        ),
        call(
            "check_out",
            address=out(0, "/address"),
            shipping="standard",
            payment=out(1, "/payments/0/payment"),
        ),
        answer=out(2, "/total"),
    )


# -- refusals: the last call is refused --------------------------------------------------------


@refusal("unknown_product")
def unknown_product(shop: Shopping, chance: Chance) -> Chain:
    """A name that nothing has."""
    return Chain("How much is the Lunar Toaster?", call("find_product", name="Lunar Toaster"))


@refusal("unknown_variant")
def unknown_variant(shop: Shopping, chance: Chance) -> Chain:
    """A colour that a product does not come in."""
    name = chance.pick(list(shop.products.values())).name
    return Chain(
        f"Do you have the {name} in purple?",
        call("find_product", name=name),
        call("list_variants", product=out(0, "/product"), colour="purple"),
    )


@refusal("repeated_product")
def repeated_product(shop: Shopping, chance: Chance) -> Chain:
    """A comparison of a product with itself."""
    name = chance.pick(list(shop.products.values())).name
    return Chain(
        f"Compare the {name} with the {name}.",
        call("find_product", name=name),
        call("compare_products", products=[out(0, "/product"), out(0, "/product")]),
    )


@refusal("fraction_of_a_cent")
def fraction_of_a_cent(shop: Shopping, chance: Chance) -> Chain:
    """A price limit with three decimals."""
    return Chain("What do you have for at most 19.995?", call("search_products", max_price=19.995))


@refusal("not_bought")
def not_bought(shop: Shopping, chance: Chance) -> Chain | None:
    """A review of something that was never ordered."""
    product = chance.pick(list(shop.products.values()))
    if any(line.variant in product.variants for o in shop.orders.values() for line in o.lines):
        return None
    return _review(product)


@refusal("already_reviewed")
def already_reviewed(shop: Shopping, chance: Chance) -> Chain:
    """A second review of one product."""
    mine = [review.product for review in shop.reviews.values() if review.mine]
    return _review(shop.products[chance.pick(mine)])


def _review(product: Product) -> Chain:
    return Chain(
        f"Give the {product.name} five stars, 'Great', 'I like it.'",
        call("find_product", name=product.name),
        call("write_review", product=out(0, "/product"), stars=5, title="Great", text="I like it."),
    )


@refusal("already_on_list")
def already_on_list(shop: Shopping, chance: Chance) -> Chain:
    """A wish that is on the list."""
    variant = shop.variants[chance.pick(list(shop.wishes))]
    return Chain(
        f"Put the {said(shop, variant)} on my wish list.",
        *look_up(shop, variant),
        call("add_to_wish_list", variant=out(1, FOUND)),
    )


@refusal("not_on_list")
def not_on_list(shop: Shopping, chance: Chance) -> Chain | None:
    """A variant that was never wished for."""
    variant = some_variant(shop, chance)
    if variant is None:
        return None
    return Chain(
        f"Take the {said(shop, variant)} off my wish list.",
        *look_up(shop, variant),
        call("remove_from_wish_list", variant=out(1, FOUND)),
    )


@refusal("out_of_stock")
def out_of_stock(shop: Shopping, chance: Chance) -> Chain | None:
    """A variant that is sold out, or more than there are."""
    variant = chance.pick(list(shop.variants.values()))
    if variant.stock > 3 or variant.id in shop.cart:
        return None
    return _too_many(shop, variant, variant.stock + 1)


@refusal("quantity_limit")
def quantity_limit(shop: Shopping, chance: Chance) -> Chain | None:
    """More than one order may have."""
    variant = chance.pick(list(shop.variants.values()))
    most = shop.products[variant.product].max_per_order
    if variant.stock <= most or variant.id in shop.cart:
        return None
    return _too_many(shop, variant, most + 1)


def _too_many(shop: Shopping, variant: Variant, quantity: int) -> Chain:
    return Chain(
        f"Put {quantity} of the {said(shop, variant)} into my cart.",
        *look_up(shop, variant),
        call("add_to_cart", variant=out(1, FOUND), quantity=quantity),
    )


@refusal("not_in_cart")
def not_in_cart(shop: Shopping, chance: Chance) -> Chain | None:
    """Another quantity of something that is not in the cart."""
    variant = some_variant(shop, chance)
    if variant is None:
        return None
    return Chain(
        f"Change the {said(shop, variant)} in my cart to 2.",
        *look_up(shop, variant),
        call("set_quantity", variant=out(1, FOUND), quantity=2),
    )


@refusal("cart_empty")
def cart_empty(shop: Shopping, chance: Chance) -> Chain:
    """Shipping of an empty cart."""
    return Chain(
        "Empty my cart, both things. What does it cost to send it home?",
        call("show_cart"),
        call("set_quantity", variant=out(0, "/lines/0/variant"), quantity=0),
        call("set_quantity", variant=out(0, "/lines/1/variant"), quantity=0),
        call("list_addresses", label="home"),
        call("shipping_options", address=out(3, "/addresses/0/address")),
    )


@refusal("half_a_destination")
def half_a_destination(shop: Shopping, chance: Chance) -> Chain:
    """A final price with an address alone."""
    return Chain(
        "What does my cart cost at home?",
        call("list_addresses", label="home"),
        call("show_cart", address=out(0, "/addresses/0/address")),
    )


@refusal("unknown_coupon")
def unknown_coupon(shop: Shopping, chance: Chance) -> Chain:
    """A code that this customer does not have."""
    return Chain("Use my coupon WINTER40.", call("apply_coupon", code="WINTER40"))


def _coupon(coupon: Coupon) -> Chain:
    return Chain(f"Use {coupon.code} for my cart.", call("apply_coupon", code=coupon.code))


def _instead(coupon: Coupon) -> Chain:
    return Chain(
        f"Use {coupon.code} for my cart in place of the coupon that is on it.",
        call("show_cart"),
        call("remove_coupon", code=out(0, "/coupons/0/code")),
        call("apply_coupon", after=(1,), code=coupon.code),
    )


@refusal("coupon_applied")
def coupon_applied(shop: Shopping, chance: Chance) -> Chain:
    """The coupon that is on the cart."""
    return _coupon(shop.applied()[0])


@refusal("coupon_not_applied")
def coupon_not_applied(shop: Shopping, chance: Chance) -> Chain | None:
    """Removing a coupon that is not on the cart."""
    code = chance.pick(list(shop.coupons))
    if code in shop.cart_coupons:
        return None
    return Chain(f"Take {code} off my cart.", call("remove_coupon", code=code))


@refusal("coupon_conflict")
def coupon_conflict(shop: Shopping, chance: Chance) -> Chain | None:
    """A second percentage, or a coupon that stands alone."""
    coupon = chance.pick(list(shop.coupons.values()))
    if coupon.code in shop.cart_coupons or (coupon.combines and coupon.amount):
        return None
    return _coupon(coupon)


def _refused(shop: Shopping, chance: Chance, reason: str) -> Chain | None:
    coupon = chance.pick(list(shop.coupons.values()))
    refused = shop.refusal_of(coupon, shop.items())
    if coupon.code in shop.cart_coupons or not refused or refused.details["reason"] != reason:
        return None
    return _instead(coupon)


@refusal("coupon_expired")
def coupon_expired(shop: Shopping, chance: Chance) -> Chain | None:
    """A coupon whose last day is over."""
    return _refused(shop, chance, "coupon_expired")


@refusal("coupon_not_yet_valid")
def coupon_not_yet_valid(shop: Shopping, chance: Chance) -> Chain | None:
    """A coupon whose first day is to come."""
    return _refused(shop, chance, "coupon_not_yet_valid")


@refusal("coupon_used")
def coupon_used(shop: Shopping, chance: Chance) -> Chain | None:
    """A coupon of an earlier order."""
    return _refused(shop, chance, "coupon_used")


@refusal("coupon_minimum")
def coupon_minimum(shop: Shopping, chance: Chance) -> Chain | None:
    """A coupon when what is left in the cart is worth too little."""
    coupon = chance.pick(list(shop.coupons.values()))
    first, *rest = shop.items()
    refused = shop.refusal_of(coupon, rest)
    if not refused or refused.details["reason"] != "coupon_minimum":
        return None
    return Chain(
        f"Take the {said(shop, shop.variants[first.variant])} out of my cart, and use "
        f"{coupon.code} in place of the coupon that is on it.",
        call("show_cart"),
        call("set_quantity", variant=out(0, "/lines/0/variant"), quantity=0),
        call("remove_coupon", code=out(0, "/coupons/0/code")),
        call("apply_coupon", after=(1, 2), code=coupon.code),
    )


@refusal("coupon_covers_nothing")
def coupon_covers_nothing(shop: Shopping, chance: Chance) -> Chain | None:
    """A coupon for other categories than those in the cart."""
    coupon = chance.pick([c for c in shop.coupons.values() if c.amount and c.categories])
    covers = [n for n, i in enumerate(shop.items()) if i.category in coupon.categories]
    return Chain(
        f"Take everything in {' and '.join(coupon.categories)} out of my cart, then use "
        f"{coupon.code} for the rest.",
        call("show_cart"),
        *(call("set_quantity", variant=out(0, f"/lines/{n}/variant"), quantity=0) for n in covers),
        call("apply_coupon", code=coupon.code),
    )


@refusal("unknown_label")
def unknown_label(shop: Shopping, chance: Chance) -> Chain:
    """An address that the customer does not have."""
    return Chain("Send it to my castle.", call("list_addresses", label="castle"))


@refusal("label_taken")
def label_taken(shop: Shopping, chance: Chance) -> Chain:
    """A second address with one label."""
    return Chain(
        "Save as 'home': Ada Berg, Mill Lane 2, 8010 Graz, Austria.",
        _new_address("home", "8010", "Graz", "Austria"),
    )


def _new_address(label: str, postcode: str, town: str, region: str) -> Call:
    return call(
        "add_address",
        label=label,
        recipient="Ada Berg",
        street="Mill Lane 2",
        postcode=postcode,
        town=town,
        region=region,
    )


@refusal("address_book_full")
def address_book_full(shop: Shopping, chance: Chance) -> Chain:
    """One address too many."""
    labels = ("aunt", "barn", "cabin", "dock", "east gate")
    return Chain(
        f"Save Ada Berg, Mill Lane 2, 8010 Graz, Austria as {', '.join(map(repr, labels))}.",
        *(_new_address(label, "8010", "Graz", "Austria") for label in labels),
    )


@refusal("no_delivery")
def no_delivery(shop: Shopping, chance: Chance) -> Chain:
    """Express to a country where there is none."""
    return Chain(
        "Save as 'cottage': Ada Berg, Mill Lane 2, F91 X4P8 Sligo, Ireland. What does my cart cost "
        "there with express shipping?",
        _new_address("cottage", "F91 X4P8", "Sligo", "Ireland"),
        call("show_cart", address=out(0, "/address"), shipping="express"),
    )


@refusal("too_heavy")
def too_heavy(shop: Shopping, chance: Chance) -> Chain | None:
    """More than a parcel shop takes."""
    variant = some_variant(shop, chance)
    if variant is None:
        return None
    product = shop.products[variant.product]
    quantity = 8000 // product.weight_g + 1
    if quantity > min(variant.stock, product.max_per_order):
        return None
    return Chain(
        f"Put {quantity} of the {said(shop, variant)} into my cart, and save as 'depot': Ada Berg, "
        "Mill Lane 2, 8010 Graz, Austria. What does all of it cost there with shipping to a parcel "
        "shop?",
        *look_up(shop, variant),
        call("add_to_cart", variant=out(1, FOUND), quantity=quantity),
        _new_address("depot", "8010", "Graz", "Austria"),
        call("show_cart", after=(2,), address=out(3, "/address"), shipping="parcel_shop"),
    )


def _pay(label: str) -> Chain:
    return Chain(
        f"Order my cart to 'home' with standard shipping; pay with the {label}.",
        together(call("list_addresses", label="home"), call("list_payments", label=label)),
        call(
            "check_out",
            address=out(0, "/addresses/0/address"),
            shipping="standard",
            payment=out(1, "/payments/0/payment"),
        ),
    )


@refusal("payment_expired")
def payment_expired(shop: Shopping, chance: Chance) -> Chain | None:
    """A card that is too old."""
    payment = chance.pick(list(shop.payments.values()))
    return _pay(payment.label) if "" < payment.expires < shop.today[:7] else None


@refusal("insufficient_balance")
def insufficient_balance(shop: Shopping, chance: Chance) -> Chain:
    """A gift card that holds less than the total."""
    [gift] = [p for p in shop.payments.values() if p.kind is PaymentKind.GIFT_CARD]
    return _pay(gift.label)


@refusal("payment_limit")
def payment_limit(shop: Shopping, chance: Chance) -> Chain:
    """A card with a limit below the total."""
    return _pay("company card")


def _cancel(shop: Shopping, chance: Chance, status: Status) -> Chain | None:
    found = some_line(shop, chance, status)
    if found is None:
        return None
    name = product_of(shop, found[1]).name
    return Chain(
        f"Cancel my order with the {name}.",
        call("find_orders", product=name),
        call("call_off_order", order=out(0, "/orders/0/order")),
    )


@refusal("already_shipped")
def already_shipped(shop: Shopping, chance: Chance) -> Chain | None:
    """An order that is on its way."""
    return _cancel(shop, chance, Status.SHIPPED)


@refusal("already_cancelled")
def already_cancelled(shop: Shopping, chance: Chance) -> Chain | None:
    """An order that was cancelled."""
    return _cancel(shop, chance, Status.CANCELLED)


def _send_back(shop: Shopping, order: Order, line: OrderLine, quantity: int) -> Chain:
    name = product_of(shop, line).name
    return Chain(
        f"Send back {quantity} of the {name}; I changed my mind.",
        call("find_orders", product=name),
        call("show_order", order=out(0, "/orders/0/order")),
        call(
            "return_items",
            order=out(0, "/orders/0/order"),
            variant=out(1, f"/lines/{line_number(order, line)}/variant"),
            quantity=quantity,
            reason="changed_mind",
        ),
    )


@refusal("not_delivered")
def not_delivered(shop: Shopping, chance: Chance) -> Chain | None:
    """Goods that are still on their way."""
    found = some_line(shop, chance, Status.SHIPPED, Status.PLACED)
    return None if found is None else _send_back(shop, *found, 1)


@refusal("not_returnable")
def not_returnable(shop: Shopping, chance: Chance) -> Chain | None:
    """Food, and other goods that are not taken back."""
    found = some_line(shop, chance, Status.DELIVERED)
    if found is None or product_of(shop, found[1]).returnable:
        return None
    return _send_back(shop, *found, 1)


@refusal("window_closed")
def window_closed(shop: Shopping, chance: Chance) -> Chain | None:
    """Goods that arrived more than thirty days ago."""
    found = some_line(shop, chance, Status.DELIVERED, days=range(-365, 0))
    if found is None or not product_of(shop, found[1]).returnable:
        return None
    return _send_back(shop, *found, 1)


@refusal("too_many")
def too_many(shop: Shopping, chance: Chance) -> Chain | None:
    """More pieces than were bought."""
    found = some_line(shop, chance, Status.DELIVERED, days=range(0, 31))
    if found is None or not product_of(shop, found[1]).returnable:
        return None
    return _send_back(shop, *found, found[1].quantity + 1)


@refusal("not_in_order")
def not_in_order(shop: Shopping, chance: Chance) -> Chain | None:
    """Goods that another order had."""
    found = some_line(shop, chance, Status.DELIVERED)
    variant = some_variant(shop, chance)
    if found is None or variant is None:
        return None
    if any(line.variant == variant.id for line in found[0].lines):
        return None
    name = product_of(shop, found[1]).name
    return Chain(
        f"Send back the {said(shop, variant)} that came with the {name}; it was damaged.",
        *look_up(shop, variant),
        call("find_orders", product=name),
        call(
            "return_items",
            order=out(2, "/orders/0/order"),
            variant=out(1, FOUND),
            quantity=1,
            reason="damaged",
        ),
    )

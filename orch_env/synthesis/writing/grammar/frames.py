"""What stands around the clauses, in parts that share no wording, one part for each split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Frames:
    """One way of talking.

    Attributes:
        openings: before everything; may be empty.
        today: says the date, with ``{}``.
        wants: before the first thing that is wanted.
        more: before a further one, as a sentence of its own.
        orders: before the first order; the clause follows as it is.
        more_orders: before a further order.
        joins: between two things in one sentence.
        last: the last word of a list.
        then: the last words of a list whose order matters.
        followups: how a later turn begins, before a thing.
        followup_orders: the same, before an order.
        same_range: instead of dates that were said just before.
        called: names one of several things, with the thing and its name.
        closings: after everything; may be empty.
        span: two dates, first and last.
        about: ties what is wanted to what it is about, where no slot does.
    """

    openings: tuple[str, ...]
    today: tuple[str, ...]
    wants: tuple[str, ...]
    more: tuple[str, ...]
    orders: tuple[str, ...]
    more_orders: tuple[str, ...]
    joins: tuple[str, ...]
    last: str
    then: str
    followups: tuple[str, ...]
    followup_orders: tuple[str, ...]
    same_range: tuple[str, ...]
    called: tuple[str, ...]
    closings: tuple[str, ...]
    span: tuple[str, ...]
    about: tuple[str, ...]


ALL: tuple[Frames, ...] = (
    Frames(
        openings=("", "", "Hi!", "Hello,", "Hi there,"),
        today=("Today is {}.", "It's {} today."),
        wants=("I need", "I'm looking for", "Can you find", "Could you get me", "Please find"),
        more=("I'd also like", "Also get me", "Then show me", "I also need", "Please also find"),
        orders=("Please", "I need you to", "Can you", "Could you"),
        more_orders=("Then", "Please also", "After that,", "Also,"),
        joins=("and", "and also"),
        last="and",
        then="and then",
        followups=("Thanks. Now I need", "Good. Next, get me", "Okay, then show me"),
        followup_orders=("Thanks. Now please", "Good. Next,", "Okay, then please"),
        same_range=("for the same dates", "on those dates"),
        called=("the {thing} {name}", "{name}"),
        closings=("", "", "Thanks!", "Thank you."),
        span=("from {} to {}",),
        about=("for",),
    ),
    Frames(
        openings=("", "Hey,", "Good morning!", "Morning!"),
        today=("As of {}:", "The date is {}."),
        wants=("Show me", "Let's see", "Get me", "I want to see", "Pull up"),
        more=("On top of that, pull up", "Next to that, I want", "Let me see", "Besides, get me"),
        orders=("I want you to", "Go ahead and", "Kindly", "Make sure to"),
        more_orders=("Next up,", "On top of that,", "Besides that,", "Once that's done,"),
        joins=("plus", "along with"),
        last="plus",
        then="followed by",
        followups=("Great, let me see", "Perfect. Pull up", "Cool, and what about"),
        followup_orders=("Great, go ahead and", "Perfect. Make sure to", "Cool, now kindly"),
        same_range=("over the same period", "in that same period"),
        called=("{name}", "the {thing} called {name}"),
        closings=("", "Cheers!", "Much appreciated."),
        span=("between {} and {}",),
        about=("for",),
    ),
    Frames(
        openings=("", "Good afternoon,", "Dear assistant,", "Good evening!"),
        today=("It is currently {}.", "Right now it is {}."),
        wants=("Give me", "What I'm after:", "I would like", "Help me find", "Look up"),
        more=("In addition, look up", "Furthermore, I would like", "Beyond that, give me"),
        orders=("Would you", "I would ask you to", "It would be great if you could"),
        more_orders=("In addition,", "Following that,", "Furthermore,", "As a last thing,"),
        joins=("as well as", "together with"),
        last="as well as",
        then="and after that",
        followups=("Fine, give me", "Alright, now look up", "Lovely, I would like"),
        followup_orders=("Fine, would you", "Alright, in addition", "Lovely, following that"),
        same_range=("with identical dates", "keeping these dates"),
        called=("{name}", "{name}, the {thing}"),
        closings=("", "That's it.", "Appreciate your help."),
        span=("starting {} until {}",),
        about=("for",),
    ),
)


def frames_of(pool: int, pools: int) -> Frames:
    """The frames of one part of the pools; with one part, those of the first."""
    return ALL[pool % len(ALL)] if pools > 1 else ALL[0]


def share(options: Sequence[T], pool: int, pools: int) -> Sequence[T]:
    """The variants of one part of the pools; all of them where there are fewer than parts."""
    if pools <= 1 or len(options) < pools:
        return options
    return [option for number, option in enumerate(options) if number % pools == pool % pools]

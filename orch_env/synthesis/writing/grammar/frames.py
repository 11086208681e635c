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
        joins: between two things in one sentence, behind a comma.
        join_orders: between two orders in one sentence.
        both: before the last of several things about one element.
        last: the last word of another list.
        again: before other arguments of the same thing.
        then: the last words of a list whose order matters.
        followups: how a later turn begins, before a thing.
        followup_orders: the same, before an order.
        same_range: instead of dates that were said just before.
        single: the one element of a result, with ``{}`` for what it is.
        position: an element by its place: ordinal and what it is.
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
    join_orders: str
    both: str
    last: str
    then: str
    again: str
    followups: tuple[str, ...]
    followup_orders: tuple[str, ...]
    same_range: tuple[str, ...]
    single: tuple[str, ...]
    position: tuple[str, ...]
    closings: tuple[str, ...]
    span: tuple[str, ...]
    about: tuple[str, ...]


ALL: tuple[Frames, ...] = (
    Frames(
        openings=("", "", "Hi!", "Hello,", "Hi there,"),
        today=("Today is {}.", "It's {} today."),
        wants=("I need", "I'm looking for", "Can you get me", "Could you get me", "Please get me"),
        more=("I also need", "And can you get me", "Then I need", "And could you get me"),
        orders=("Please", "Can you", "I need you to"),
        more_orders=("Then", "After that,", "And please"),
        joins=("and", "and also"),
        join_orders="and",
        both="and",
        last="and",
        then="and then",
        again="and again",
        followups=("Thanks. Now I need", "Good. I also need", "Okay, can you also get me"),
        followup_orders=("Thanks. Now please", "Good. Then", "Okay, now please"),
        same_range=("for the same dates", "on those dates"),
        single=("that {}", "the {} you find"),
        position=("the {} {}", "the {} {} you find"),
        closings=("", "", "", "Thanks!", "Thank you."),
        span=("from {} to {}",),
        about=("for",),
    ),
    Frames(
        openings=("", "", "Hey,", "Good morning!", "Morning,"),
        today=("The date is {}.", "Today's date is {}."),
        wants=("Show me", "Find me", "I want", "Could you find", "Help me find"),
        more=("Also show me", "Also find me", "Could you also find", "Let me also see"),
        orders=("Go ahead and", "Could you", "Please go ahead and"),
        more_orders=("Once that's done,", "Also,", "Could you also"),
        joins=("plus", "along with"),
        join_orders="and then",
        both="as well as",
        last="and",
        then="followed by",
        again="and once more",
        followups=("Great, now show me", "Perfect. Could you also find", "Cool. Next, find me"),
        followup_orders=("Great, now", "Perfect. Could you also", "Cool. Next,"),
        same_range=("over the same dates", "in that same period"),
        single=("the {} that comes up", "the {} on the list"),
        position=("the {} {} on the list", "the {} {} that comes up"),
        closings=("", "", "", "Cheers!", "Much appreciated."),
        span=("between {} and {}",),
        about=("for",),
    ),
    Frames(
        openings=("", "", "Good afternoon.", "Good evening!", "Hello there!"),
        today=("It is currently {}.", "Right now it is {}."),
        wants=("I'd like", "I would like", "Could you look up", "Please look up"),
        more=("I would also like", "Please also look up", "Next, I would like"),
        orders=("Would you", "Kindly", "I would ask that you"),
        more_orders=("Next,", "Afterwards,", "In addition,"),
        joins=("together with", "and in addition"),
        join_orders="and also",
        both="and also",
        last="and",
        then="and after that",
        again="and another time",
        followups=(
            "Alright, please look up",
            "Lovely, I would also like",
            "Fine. Next, I would like",
        ),
        followup_orders=("Alright, would you", "Lovely. Next,", "Fine. Afterwards,"),
        same_range=("with the same dates", "again for these dates"),
        single=("the {} in the results", "the {} you come across"),
        position=("the {} {} in the results", "the {} {} shown"),
        closings=("", "", "", "That would be all.", "I appreciate the help."),
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
    return options[pool % pools :: pools]

"""The eight kinds of task in the harbour, of two to five calls, and how people ask for them."""

from __future__ import annotations

from tools.harbour_world.workflow import CallPlan, Output, Said, Workflow


def _call(tool: str, **producers: int) -> CallPlan:
    """A call whose arguments come from outputs of the same name.

    Args:
        tool: the tool.
        producers: argument -> number of the call that returns it.
    """
    return CallPlan(tool, {name: Output(call, f"/{name}") for name, call in producers.items()})


_SHIP = CallPlan("find_ship", {"name": Said("ship")})
_PILOT = CallPlan("find_pilot", {"name": Said("pilot")})
_BERTH, _CARGO = _call("ship_berth", ship=0), _call("ship_cargo", ship=0)
_BOOKING = _call("book_pilot", ship=0, pilot=1)
_PERMIT = _call("cargo_permit", cargo=1)

WORKFLOWS = (
    Workflow(
        "cargo",
        ((_SHIP,), (_CARGO,)),
        (
            "Which cargo is aboard {ship}?",
            "Tell me the cargo of the ship {ship}.",
            "What does {ship} carry?",
        ),
    ),
    Workflow(
        "crane",
        ((_SHIP,), (_BERTH,), (_call("berth_crane", berth=1),)),
        (
            "Which crane can reach {ship}?",
            "Tell me the crane at the berth of {ship}.",
            "What crane serves the ship {ship}?",
        ),
    ),
    Workflow(
        "permit",
        ((_SHIP,), (_CARGO,), (_PERMIT,)),
        (
            "Which permit covers the cargo of {ship}?",
            "Tell me the permit for what {ship} carries.",
            "What is the import permit of the ship {ship}?",
        ),
    ),
    Workflow(
        "renewal",
        ((_SHIP,), (_CARGO,), (_PERMIT,), (_call("renew_permit", permit=2),)),
        (
            "Renew the permit for the cargo of {ship}.",
            "Please renew the import permit of the ship {ship}.",
            "The permit for what {ship} carries must be renewed.",
        ),
    ),
    Workflow(
        "pilotage",
        ((_SHIP, _PILOT), (_BOOKING,)),
        (
            "Book the pilot {pilot} for the ship {ship}.",
            "Please book pilot {pilot} to guide ship {ship}.",
            "The ship {ship} needs the pilot {pilot}: book one.",
        ),
    ),
    Workflow(
        "confirmation",
        ((_SHIP, _PILOT), (_BOOKING,), (_call("confirm_booking", booking=2),)),
        (
            "Book the pilot {pilot} for the ship {ship} and confirm it.",
            "Please book pilot {pilot} to guide ship {ship}, then confirm.",
            "The ship {ship} needs the pilot {pilot}: book and confirm.",
        ),
    ),
    Workflow(
        "notice",
        (
            (_SHIP,),
            (_call("ship_agent", ship=0), _BERTH),
            (_call("notify_agent", agent=1, berth=2),),
        ),
        (
            "Notify the agent of {ship} of its berth.",
            "Tell the agent at which berth {ship} lies.",
            "Please let the agent of the ship {ship} know the berth.",
        ),
    ),
    Workflow(
        "unloading",
        (
            (_SHIP,),
            (_CARGO, _BERTH),
            (_call("berth_crane", berth=2),),
            (_call("unload_cargo", cargo=1, crane=3),),
        ),
        (
            "Unload the cargo of {ship}.",
            "Please unload the ship {ship} at its berth.",
            "Have the crane unload what {ship} carries.",
        ),
    ),
)

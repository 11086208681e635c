"""The eight kinds of task in the harbour, of two to five calls, and how people ask for them."""

from __future__ import annotations

from orch_env.synthesis.workflow import CallPlan, Output, Said, Workflow

_SHIP = CallPlan("find_ship", {"name": Said("ship")})
_PILOT = CallPlan("find_pilot", {"name": Said("pilot")})
_BOOK = CallPlan("book_pilot", {"ship": Output(0, "/ship"), "pilot": Output(1, "/pilot")})


def _of_ship(tool: str) -> CallPlan:
    return CallPlan(tool, {"ship": Output(0, "/ship")})


WORKFLOWS = (
    Workflow(
        "cargo",
        ((_SHIP,), (_of_ship("ship_cargo"),)),
        (
            "Which cargo is aboard {ship}?",
            "Tell me the cargo of the ship {ship}.",
            "What does {ship} carry?",
        ),
    ),
    Workflow(
        "crane",
        (
            (_SHIP,),
            (_of_ship("ship_berth"),),
            (CallPlan("berth_crane", {"berth": Output(1, "/berth")}),),
        ),
        (
            "Which crane can reach {ship}?",
            "Tell me the crane at the berth of {ship}.",
            "What crane serves the ship {ship}?",
        ),
    ),
    Workflow(
        "permit",
        (
            (_SHIP,),
            (_of_ship("ship_cargo"),),
            (CallPlan("cargo_permit", {"cargo": Output(1, "/cargo")}),),
        ),
        (
            "Which permit covers the cargo of {ship}?",
            "Tell me the permit for what {ship} carries.",
            "What is the import permit of the ship {ship}?",
        ),
    ),
    Workflow(
        "renewal",
        (
            (_SHIP,),
            (_of_ship("ship_cargo"),),
            (CallPlan("cargo_permit", {"cargo": Output(1, "/cargo")}),),
            (CallPlan("renew_permit", {"permit": Output(2, "/permit")}),),
        ),
        (
            "Renew the permit for the cargo of {ship}.",
            "Please renew the import permit of the ship {ship}.",
            "The permit for what {ship} carries must be renewed.",
        ),
    ),
    Workflow(
        "pilotage",
        ((_SHIP, _PILOT), (_BOOK,)),
        (
            "Book the pilot {pilot} for the ship {ship}.",
            "Please book pilot {pilot} to guide ship {ship}.",
            "The ship {ship} needs the pilot {pilot}: book one.",
        ),
    ),
    Workflow(
        "confirmation",
        (
            (_SHIP, _PILOT),
            (_BOOK,),
            (CallPlan("confirm_booking", {"booking": Output(2, "/booking")}),),
        ),
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
            (_of_ship("ship_agent"), _of_ship("ship_berth")),
            (
                CallPlan(
                    "notify_agent", {"agent": Output(1, "/agent"), "berth": Output(2, "/berth")}
                ),
            ),
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
            (_of_ship("ship_cargo"), _of_ship("ship_berth")),
            (CallPlan("berth_crane", {"berth": Output(2, "/berth")}),),
            (
                CallPlan(
                    "unload_cargo", {"cargo": Output(1, "/cargo"), "crane": Output(3, "/crane")}
                ),
            ),
        ),
        (
            "Unload the cargo of {ship}.",
            "Please unload the ship {ship} at its berth.",
            "Have the crane unload what {ship} carries.",
        ),
    ),
)

"""The vehicle: the electric cars of a club, each as the people in it use it."""

from __future__ import annotations

from orch_env.servers.domains.vehicle.cabin import CabinTools
from orch_env.servers.domains.vehicle.care import CareTools
from orch_env.servers.domains.vehicle.driving import DrivingTools
from orch_env.servers.domains.vehicle.navigation import NavigationTools


class Vehicle(NavigationTools, DrivingTools, CabinTools, CareTools):
    """The electric cars of a car-sharing club: power, gears, cabin, navigation, charging, care."""

    name = "vehicle"
    category = "Devices"
    epoch = "2025-05-12"


__all__ = ["Vehicle"]

"""Checks of rewards: what exploits earn, what components say, where rewards disagree."""

from orch_env.audit.attack import attack
from orch_env.audit.exploits import EXPLOITS, Exploit, Kind
from orch_env.audit.report import AttackReport

__all__ = ["EXPLOITS", "AttackReport", "Exploit", "Kind", "attack"]

"""Which output feeds which argument, found in traces and in the cache."""

from orch_env.synthesis.mining.mine import mine
from orch_env.synthesis.mining.mined import Agreement, Attachment, Link, LinkKind, Mined, Slot

__all__ = ["Agreement", "Attachment", "Link", "LinkKind", "Mined", "Slot", "mine"]

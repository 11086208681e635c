"""A Ray cluster of several nodes on one machine, whose nodes can be killed; for fault tests.

The head runs nothing but the driver. A killed node is noticed after about `NOTICED_S` by the
health-check settings below; Ray's defaults take 14 s or so.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any

_HEALTH_CHECK = {
    "health_check_initial_delay_ms": 5000,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 3000,  # of a node that is slow; a killed one refuses at once
    "health_check_failure_threshold": 4,
}
NOTICED_S = 4 * 0.5
"""How long the death of a killed node goes unnoticed by these settings, about."""


class SmallCluster:
    """A head and some nodes; a context manager that also connects the driver.

    Args:
        nodes: how many nodes run actors.
        cpus: CPUs that each of them offers.
    """

    def __init__(self, nodes: int, cpus: float) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        from ray.cluster_utils import Cluster

        self._cpus, self._wanted = cpus, nodes
        self._cluster: Any = Cluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 0,
                "include_dashboard": False,
                "object_store_memory": 200 << 20,
                "_system_config": _HEALTH_CHECK,
            },
        )
        self.nodes: list[Any] = [self.add() for _ in range(nodes)]

    def add(self) -> Any:
        """Start one more node."""
        return self._cluster.add_node(num_cpus=self._cpus, object_store_memory=200 << 20)

    def raylets(self) -> list[int]:
        """Process ids of the nodes' raylets, which are the parents of all that runs on them."""
        return [node.all_processes["raylet"][0].process.pid for node in self.nodes]

    def kill(self, index: int) -> None:
        """Kill a node and all that runs on it, without a word to anybody."""
        self._cluster.remove_node(self.nodes.pop(index), allow_graceful=False)

    def refill(self) -> None:
        """Start nodes until there are as many as in the beginning; in the main thread only."""
        while len(self.nodes) < self._wanted:
            self.nodes.append(self.add())

    def __enter__(self) -> SmallCluster:
        import ray

        self._cluster.wait_for_nodes()
        ray.init(address=self._cluster.address, log_to_driver=False, logging_level="ERROR")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        import ray

        ray.shutdown()
        self._cluster.shutdown()

"""Which bundles come out for the machines that people have; on a CPU, that actors land in them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orch_env.types import OrchError
from orch_train import GRPOConfig
from orch_train.rollouts.env_runner import EnvRunnerActor
from orch_train.runners.placement import Demand, Resources, plan

LAPTOP = [Resources(8)]
ONE_NODE = [Resources(96, 8)]
TWO_NODES = [Resources(96, 8), Resources(96, 8)]


def test_a_laptop_needs_no_placement_group() -> None:
    layout = plan(Demand(2, Resources(1)), "auto", LAPTOP)
    assert (layout.layout, layout.bundles) == ("none", ())


def test_one_node_of_eight_gpus_is_divided_between_learners_and_runners() -> None:
    demand = Demand(4, Resources(2, 1), 4, Resources(1, 1))
    layout = plan(demand, "auto", ONE_NODE)
    assert layout.layout == "separate"
    assert Counter(layout.bundles) == {Resources(1, 1): 4, Resources(2, 1): 4}
    assert layout.learner_bundles == (0, 1, 2, 3) and layout.runner_bundles == (4, 5, 6, 7)
    assert set(layout.machines) == {0}


def test_tensor_parallel_engines_take_their_gpus_in_one_bundle() -> None:
    demand = Demand(2, Resources(4, 2), 4, Resources(1, 1))
    layout = plan(demand, "separate", ONE_NODE)
    assert Counter(layout.bundles) == {Resources(1, 1): 4, Resources(4, 2): 2}
    assert set(layout.machines) == {0}
    # Four GPUs of one engine are never taken from two machines.
    with pytest.raises(OrchError, match="do not fit"):
        plan(Demand(1, Resources(1, 4)), "separate", [Resources(8, 2), Resources(8, 2)])


def test_two_nodes_hold_eight_learners_and_eight_runners() -> None:
    layout = plan(Demand(8, Resources(2, 1), 8, Resources(1, 1)), "auto", TWO_NODES)
    assert layout.layout == "separate" and len(layout.bundles) == 16
    assert Counter(layout.machines) == {0: 8, 1: 8}


def test_auto_colocates_where_separate_does_not_fit() -> None:
    demand = Demand(8, Resources(2, 0.5), 8, Resources(1, 1))
    layout = plan(demand, "auto", ONE_NODE)
    assert layout.layout == "colocated"
    assert layout.bundles == (Resources(3, 1),) * 8
    assert layout.learner == Resources(1, 0.5), "the GPU is shared, so both fractions make one"
    assert layout.runner_bundles == layout.learner_bundles == tuple(range(8))


@pytest.mark.parametrize(
    ("demand", "wanted", "piece"),
    [
        (Demand(9, Resources(1, 1)), "auto", "do not fit"),
        (Demand(9, Resources(1, 1)), "separate", "lower their number"),
        (Demand(4, Resources(1, 0.5), 2, Resources(1, 1)), "colocated", "do not pair"),
        (Demand(2, Resources(1, 1), 2, Resources(1, 1)), "colocated", "a fraction of one"),
    ],
)
def test_what_cannot_be_is_said_before_ray_is_asked(
    demand: Demand, wanted: str, piece: str
) -> None:
    with pytest.raises(OrchError, match=piece):
        plan(demand, wanted, ONE_NODE)


amounts = st.integers(0, 8).map(lambda n: n / 4)


@given(
    st.integers(1, 6),
    amounts,
    st.integers(0, 6),
    st.lists(st.tuples(st.integers(1, 8), st.integers(0, 4)), min_size=1, max_size=4),
)
def test_no_machine_is_given_more_than_it_has(
    runners: int, gpus: float, learners: int, nodes: list[tuple[int, int]]
) -> None:
    machines = [Resources(cpus, count) for cpus, count in nodes]
    demand = Demand(runners, Resources(1, gpus), learners, Resources(1, 1))
    try:
        layout = plan(demand, "separate", machines)
    except OrchError:
        return
    assert len(layout.bundles) == runners + learners
    assert sorted(layout.learner_bundles + layout.runner_bundles) == list(range(runners + learners))
    for index, machine in enumerate(machines):
        here = [b for b, home in zip(layout.bundles, layout.machines, strict=True) if home == index]
        assert sum(b.cpus for b in here) <= machine.cpus
        assert sum(b.gpus for b in here) <= machine.gpus


def test_a_configurations_demand_counts_learner_actors_only() -> None:
    config = GRPOConfig().env_runners(num_env_runners=3, num_gpus_per_env_runner=0.5)
    demand = Demand.of(config.settings)
    assert demand.runners == 3 and demand.runner == Resources(1, 0.5)
    assert demand.learners == 0, "the driver process learns"
    one = config.learners(num_learners=1, num_gpus_per_learner=1, num_cpus_per_learner=2)
    demand = Demand.of(one.settings)
    assert (demand.learners, demand.learner) == (1, Resources(2, 1))
    assert demand.total == Resources(5, 2.5)


def test_a_learner_and_a_runner_may_share_a_gpu_or_have_one_each() -> None:
    one = Demand(1, Resources(1, 0.5), 1, Resources(1, 1))
    shared = plan(one, "auto", [Resources(4, 1)])
    assert (shared.layout, shared.learner) == ("colocated", Resources(1, 0.5))
    apart = plan(one, "auto", [Resources(4, 2)])
    assert (apart.layout, apart.learner) == ("separate", Resources(1, 1))


def test_unplaced_actors_that_no_machine_has_room_for_are_refused() -> None:
    for wanted in ("auto", "none"):
        with pytest.raises(OrchError, match=r"9 env runners of 1 CPU .* need 9 CPU, .*have 8 CPU"):
            plan(Demand(9, Resources(1)), wanted, LAPTOP)


def test_an_engine_over_several_gpus_needs_them_all() -> None:
    config = GRPOConfig().env_runners(tensor_parallel_size=2, num_gpus_per_env_runner=1)
    with pytest.raises(OrchError, match="needs as many GPUs per runner"):
        _ = config.settings


class _Telling(EnvRunnerActor):
    def group(self) -> str:
        import ray

        found: Any = ray.util.get_current_placement_group()
        return str(found.id.hex())


def _free_in_bundles(group: str, expected: list[float]) -> list[float]:
    """CPUs that are left in each bundle, once Ray's bookkeeping has caught up with them."""
    import ray

    deadline = time.monotonic() + 30
    while True:
        free = ray.available_resources()
        found = [free.get(f"CPU_group_{i}_{group}", 0.0) for i in range(len(expected))]
        if found == expected or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def test_runners_land_in_the_bundles_that_were_reserved_for_them(
    ray_local: None, toy_config: GRPOConfig, toy_model: Path
) -> None:
    import ray

    from orch_train.models.load import load_model
    from orch_train.runners.runner_pool import RunnerPool

    settings = toy_config.env_runners(
        num_env_runners=2, num_cpus_per_env_runner=0.5, placement="separate"
    ).settings
    weights = load_model(toy_model).state_dict()
    pool = RunnerPool(settings, weights, 0, lambda _slot, _why: None, _Telling)
    try:
        groups = ray.get([slot.actor.group.remote() for slot in pool.slots], timeout=60)
        assert groups[0] == groups[1]
        assert _free_in_bundles(groups[0], [0.0, 0.0]) == [0.0, 0.0], "each fills its own"
        pool.lose(pool.slots[1], "the test took it away")
        while len(pool.healthy) < 2:
            pool.tend()
            pool.wait()
        assert ray.get(pool.slots[1].actor.group.remote(), timeout=60) == groups[0]
        assert _free_in_bundles(groups[0], [0.0, 0.0]) == [0.0, 0.0], "and so does a replacement"
    finally:
        pool.stop()
    assert ray.util.placement_group_table()[groups[0]]["state"] == "REMOVED"


def test_a_learner_finds_its_runners_bundle_by_the_groups_name(ray_local: None) -> None:
    import ray

    from orch_train.runners.reservation import Reservation, machines

    @ray.remote
    class Member:
        def group(self) -> str:
            found: Any = ray.util.get_current_placement_group()
            return str(found.id.hex())

    demand = Demand(2, Resources(0.5), 2, Resources(0.25))
    layout = plan(demand, "colocated", machines())
    places, again = Reservation(layout, 30.0), Reservation(layout, 30.0)
    try:
        runner = Member.options(**places.runner_options(1)).remote()
        learner = Member.options(**again.learner_options(1)).remote()
        group, same = ray.get([runner.group.remote(), learner.group.remote()], timeout=60)
        assert group == same
        assert _free_in_bundles(group, [0.75, 0.0]) == [0.75, 0.0], "both are in bundle 1"
    finally:
        places.close()


def test_without_gpus_nothing_is_reserved(ray_local: None) -> None:
    from orch_train.runners.reservation import Reservation, machines

    layout = plan(Demand(2, Resources(0.5)), "auto", machines())
    places = Reservation(layout, 1.0)
    assert places.runner_options(1) == {"num_cpus": 0.5, "num_gpus": 0.0}
    places.close()


def test_resources_that_others_hold_are_an_error_and_no_endless_wait(ray_local: None) -> None:
    from ray.util.placement_group import placement_group, remove_placement_group

    from orch_train.runners.reservation import Reservation, machines

    layout = plan(Demand(2, Resources(1)), "separate", machines())
    taken = placement_group([{"CPU": 2.0}])
    assert taken.wait(30)
    try:
        with pytest.raises(OrchError, match=r"did not free the resources within 0\.5 s"):
            Reservation(layout, 0.5)
    finally:
        remove_placement_group(taken)


_COLOCATED = """
import ray
from orch_train import GRPOConfig

ray.init(
    address="local", num_cpus=4, include_dashboard=False, log_to_driver=False,
    _node_ip_address="127.0.0.1",
)
config = (
    GRPOConfig()
    .environment("tests.orch_train.toy_env:orch_test/Letters-v0", env_config={"tasks": "abcdef"})
    .model("tiny")
    .rollouts(max_tokens_per_turn=12, max_context=256)
    .env_runners(
        num_env_runners=2, num_cpus_per_env_runner=0.5, num_envs_per_env_runner=8,
        placement="colocated",
    )
    .learners(num_learners=2, num_cpus_per_learner=1)
    .training(groups_per_batch=2, group_size=4)
    .reporting(tensorboard=False)
)
with config.build_algo() as algo:
    (group,) = ray.util.placement_group_table().values()
    result = algo.train()
states = [group["state"] for group in ray.util.placement_group_table().values()]
print("seen", group["bundles"], result["env_runners"]["num_episodes"], states)
"""


@pytest.mark.long
def test_a_run_with_runners_and_sharded_learners_in_shared_bundles() -> None:
    """In a process of its own, on a Ray that is told of four CPUs."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _COLOCATED],
        capture_output=True,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        timeout=280,
        check=True,
    )
    assert "seen {0: {'CPU': 1.5}, 1: {'CPU': 1.5}} 8 ['REMOVED']" in done.stdout

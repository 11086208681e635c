"""A store that is bounded by cost: what is kept, what goes, and that threads may share it."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from orch_env.types.bounded_store import BoundedStore


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 12))))
def test_the_cost_of_what_is_kept_never_exceeds_the_bound(puts: list[tuple[int, int]]) -> None:
    store: BoundedStore[int, int] = BoundedStore(20)
    costs: dict[int, int] = {}
    for key, cost in puts:
        store.put(key, cost, cost)
        costs[key] = cost
        assert store.get(key) == cost
        kept = [k for k in costs if store.get(k) is not None]
        assert store.cost == sum(costs[k] for k in kept) <= 20
        assert len(store) == len(kept)


def test_the_oldest_go_first_and_what_is_larger_than_the_bound_is_not_kept() -> None:
    store: BoundedStore[str, int] = BoundedStore(10)
    for number, key in enumerate("abc"):
        store.put(key, number, 4)
    assert [store.get(k) for k in "abc"] == [None, 1, 2]
    store.put("d", 3, 11)
    assert (store.get("d"), len(store)) == (None, 2)


def test_threads_may_share_a_store() -> None:
    store: BoundedStore[int, int] = BoundedStore(50)
    wrong: list[int] = []

    def work(offset: int) -> None:
        for n in range(3000):
            key = (n * 7 + offset) % 40
            store.put(key, key, key % 5)
            if store.get(key) not in (key, None):
                wrong.append(key)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and store.cost <= 50

"""A seed depends on all that it is made of, and on nothing else."""

from itertools import product

from pcam_agreement.core.seeds import seed_of


def test_other_parts_give_other_seeds_and_the_same_parts_the_same():
    parts = [*product(range(20), range(20)), *product(("a", "b", "1"), range(20)), ("a",), (1,), ("1",), (1, 2, 3)]
    assert len({seed_of(*part) for part in parts}) == len(parts)
    assert seed_of("a", 1) == seed_of("a", 1) == 2057769193037142695  # on every machine
    assert all(0 <= seed_of(*part) < 2**63 for part in parts)

"""Work that is shared out among cores gives what it gives in one piece."""

from __future__ import annotations

import numpy as np
import pytest

from lensnet.algebra.parallel import in_parts, threads


@pytest.mark.parametrize("allowed", ["1", "3", "16"])
@pytest.mark.parametrize("size", [10, 100_003])
def test_parts_are_put_together_in_order(allowed: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lensnet.algebra.parallel.threads", lambda: int(allowed))  # more than the machine may have
    x, y = np.random.default_rng(0).standard_normal((2, size))
    total, share = in_parts(lambda a, b: (a + b, np.exp(a) / (1 + b * b)), x, y)
    np.testing.assert_array_equal(total, x + y)
    np.testing.assert_array_equal(share, np.exp(x) / (1 + y * y))


def test_threads_are_those_that_the_user_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert threads() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert threads() >= 1


def test_what_goes_wrong_in_a_part_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lensnet.algebra.parallel.threads", lambda: 2)

    def fails(x: np.ndarray) -> tuple[np.ndarray, ...]:
        if x[0] > 0:
            raise ValueError("the second half")
        return (x,)

    with pytest.raises(ValueError, match="second half"):
        in_parts(fails, np.repeat([-1.0, 1.0], 50_000))

"""Ensembles: determinism, one by one against together, interruption, memory, devices, the caller's state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lensnet.measure import DeviceError, MeasureError, Measurement, SeedStatistics, ensemble, measure
from lensnet.measure.module import draw, to_module
from lensnet.measure.passes import measure_pass
from lensnet.measure.together import draws_together, measure_together
from lensnet.network.graph import Network
from lensnet.network.shape import Shape
from lensnet.network.weights import WeightLaw
from tests.measure.networks import chain, conv, linear, network, node

WIDTH = Shape(16)


def small() -> Network:
    return network(
        [
            linear("stem", "input", WIDTH, 16, bias_std=0.1),
            node("stem.fork", "fork", ["stem"], [WIDTH]),
            node("norm", "batchnorm", ["stem.fork"], [WIDTH], needs={"batch_mean_square": {}}),
            node("act", "gelu", ["norm"], [WIDTH]),
            node("drop", "dropout", ["act"], [WIDTH], None, {"rate": 0.3}),
            linear("branch", "drop", WIDTH, 16),
            node(
                "add",
                "residual",
                ["stem.fork", "branch"],
                [WIDTH] * 2,
                ports=["skip", "branch"],
                needs={"cross_moment": {}},
            ),
            linear("head", "add", WIDTH, 3),
        ],
        WIDTH,
        batch=6,
    )


def tokens() -> Network:
    ids, shape = Shape(30, (5,), "ids"), Shape(8, (5,))
    weights = {"weight": WeightLaw(1, 1, 1.0)}
    return network(
        [
            node("embed", "embedding", ["input"], [ids], shape, weights=weights),
            node("place", "positional_encoding", ["embed"], [shape], None, {"encoding": "learned"}, weights),
            node("norm", "layernorm", ["place"], [shape], needs={"token_gram": {}, "gradient_gram": {}}),
            node("lrn", "local_response_norm", ["norm"], [shape]),
            linear("head", "lrn", shape, 3),
        ],
        ids,
    )


def batch_of(given: Network, seed: int = 0) -> torch.Tensor:
    draws = torch.Generator().manual_seed(seed)
    shape = given.input.shape
    if shape.kind == "ids":
        return torch.randint(0, 30, (6, *shape.positions), generator=draws)
    return torch.randn(shape.tensor_shape(6), generator=draws)


def assert_same(one: SeedStatistics, other: SeedStatistics, rtol: float) -> None:
    assert one.seed == other.seed and one.nonfinite == other.nonfinite
    for a, b in ((one.gradients, other.gradients), (one.side, other.side), (one.invariant, other.invariant)):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_allclose(a[key], b[key], rtol=rtol, atol=rtol, err_msg=str(key))
    assert one.outputs.keys() == other.outputs.keys()
    for path in one.outputs:
        assert one.outputs[path].mean.shape == other.outputs[path].mean.shape
        np.testing.assert_allclose(one.outputs[path].mean, other.outputs[path].mean, rtol=rtol, atol=rtol)
        np.testing.assert_allclose(one.outputs[path].second_moment, other.outputs[path].second_moment, rtol=rtol)


@pytest.mark.parametrize("make", [small, tokens])
@pytest.mark.parametrize("backward", [True, False])
def test_together_equals_one_by_one(make: Any, backward: bool) -> None:
    given = make()
    module, batch = to_module(given).double().train(), batch_of(given)
    batch = batch.double() if batch.is_floating_point() else batch
    one_by_one = []
    for seed in (3, 4, 9):
        draw(module, given, seed, len(batch))
        one_by_one.append(measure_pass(module, given, batch, seed, backward))
    for one, other in zip(one_by_one, measure_together(module, given, batch, (3, 4, 9), backward), strict=True):
        assert_same(one, other, 1e-10)


def test_together_is_chosen_for_small_dense_networks_only() -> None:
    assert draws_together(small(), to_module(small()), batch_of(small())) > 1
    image = Shape(3, (6, 6))
    given = chain(image, lambda source, shape: conv("conv", source, shape, 4, 3))
    assert draws_together(given, to_module(given), batch_of(given)) == 1
    wide = chain(WIDTH, lambda source, shape: linear("a", source, shape, 100_000))
    assert draws_together(wide, to_module(wide), batch_of(wide)) == 1


def test_same_seeds_same_numbers_in_any_grouping() -> None:
    given, batch = small(), batch_of(small())
    whole = measure(given, batch, seeds=5, device="cpu")
    assert [seed.seed for seed in whole.seeds] == [0, 1, 2, 3, 4]
    again = measure(given, batch, seeds=5, device="cpu")
    for one, other in zip(whole.seeds, again.seeds, strict=True):
        assert_same(one, other, 0.0)
    later = measure(given, batch, seeds=2, first_seed=3, device="cpu")
    for one, other in zip(whole.seeds[3:], later.seeds, strict=True):
        assert_same(one, other, 1e-5)
    differ = [seed.outputs["head"].second_moment.mean() for seed in whole.seeds]
    assert len(set(differ)) == 5


def test_float64_is_the_same_network() -> None:
    given, batch = small(), batch_of(small())
    narrow, wide = (measure(given, batch, seeds=2, device="cpu", dtype=name) for name in ("float32", "float64"))
    assert wide.dtype == "float64"
    for one, other in zip(narrow.seeds, wide.seeds, strict=True):
        assert_same(one, other, 1e-4)


def test_eval_mode_turns_dropout_off() -> None:
    given, batch = small(), batch_of(small())
    found = measure(given, batch, seeds=2, device="cpu", train=False).seeds[0].outputs
    np.testing.assert_allclose(found["drop"].second_moment, found["act"].second_moment, rtol=1e-6)


def test_the_callers_random_state_and_settings_stay() -> None:
    given, batch = small(), batch_of(small())
    torch.manual_seed(11)
    before, keep = torch.get_rng_state(), batch.clone()
    flags = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark, torch.is_grad_enabled()
    measure(given, batch, seeds=3, device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert flags == (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark, torch.is_grad_enabled())
    assert torch.equal(batch, keep) and not batch.requires_grad
    with torch.no_grad():
        assert measure(given, batch, seeds=1, device="cpu").seeds[0].gradients


class Bar:
    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def start(self, total: int) -> None:
        self.calls.append(("start", total))

    def advance(self, seeds: int) -> None:
        self.calls.append(("advance", seeds))


def test_progress_and_callback() -> None:
    bar, seen = Bar(), []
    found = measure(small(), batch_of(small()), 3, device="cpu", progress=bar, on_seed=seen.append, keep_seeds=False)
    assert bar.calls == [("start", 3)] + [("advance", 1)] * 3
    assert [seed.seed for seed in seen] == [0, 1, 2] and found.seeds == []


def out_of_memory_above(monkeypatch: pytest.MonkeyPatch, examples: int, error: Exception, after: int = 0) -> None:
    """Make passes over more than so many examples fail, after the first few."""
    real, count = ensemble.measure_pass, iter(range(1000))

    def limited(module: Any, given: Network, batch: torch.Tensor, *rest: Any, **options: Any) -> SeedStatistics:
        if len(batch) > examples and next(count) >= after:
            raise error
        return real(module, given, batch, *rest, **options)

    monkeypatch.setattr(ensemble, "measure_pass", limited)
    monkeypatch.setattr(ensemble, "draws_together", lambda *_: 1)


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to ..."
        ),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "python"],
)
def test_out_of_memory_halves_the_batch(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    given, batch = small(), batch_of(small())
    out_of_memory_above(monkeypatch, 3, error, after=1)
    bar, seen = Bar(), []
    found = measure(given, batch, seeds=2, device="cpu", on_seed=seen.append, progress=bar)
    assert found.batch == 3 and len(found.seeds) == 2
    assert found.notes == ["out of memory: the batch was halved from 6 to 3 examples"]
    assert found.seeds[0].outputs["head"].mean.shape == (3,)
    assert [seed.seed for seed in seen] == [0, 0, 1]  # the first seed is measured again
    assert bar.calls.count(("start", 2)) == 2
    np.testing.assert_allclose(found.seeds[0].outputs["input"].mean, batch[:3].double().mean(1), rtol=1e-6)


def test_out_of_memory_with_one_example_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    out_of_memory_above(monkeypatch, 0, MemoryError())
    with pytest.raises(MeasureError, match="single example"):
        measure(small(), batch_of(small()), seeds=2, device="cpu")


def test_other_errors_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    out_of_memory_above(monkeypatch, 0, RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        measure(small(), batch_of(small()), seeds=2, device="cpu")


def test_ctrl_c_returns_what_was_finished() -> None:
    done: list[int] = []

    def interrupt(seed: SeedStatistics) -> None:
        done.append(seed.seed)
        if len(done) == 2:
            raise KeyboardInterrupt

    found = measure(small(), batch_of(small()), seeds=6, device="cpu", on_seed=interrupt)
    assert found.interrupted and [seed.seed for seed in found.seeds] == [0, 1]
    assert found.notes == ["interrupted: 2 of 6 weight draws were finished"]


def test_a_layer_without_vmap_is_measured_one_by_one() -> None:
    def odd(x: torch.Tensor) -> torch.Tensor:
        return x * float(x.detach().abs().max() > -1)  # looks at the data: vmap refuses

    given = network([linear("a", "input", WIDTH, 16), node("odd", "odd", ["a"], [WIDTH], function=odd)], WIDTH)
    found = measure(given, batch_of(given), seeds=3, device="cpu")
    assert [seed.seed for seed in found.seeds] == [0, 1, 2]


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU that is absent")
def test_an_absent_gpu_is_a_clear_error() -> None:
    with pytest.raises(DeviceError, match="a GPU was asked for .* but torch sees none"):
        measure(small(), batch_of(small()), device="cuda")
    assert measure(small(), batch_of(small()), seeds=1, device="auto").device == "cpu"


def test_unknown_devices_and_dtypes() -> None:
    for name in ("tpu9", "meta"):
        with pytest.raises(DeviceError, match="use auto, cpu or cuda"):
            measure(small(), batch_of(small()), device=name)
    with pytest.raises(MeasureError, match="unknown dtype 'int8'"):
        measure(small(), batch_of(small()), dtype="int8")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("make", [small, tokens])
def test_a_gpu_measures_the_same_network(make: Any) -> None:
    given, batch = make(), batch_of(make())
    results: list[Measurement] = [
        measure(given, batch, seeds=2, device=name, dtype="float64") for name in ("cpu", "cuda")
    ]
    for one, other in zip(*(result.seeds for result in results), strict=True):
        assert_same(one, other, 1e-8)

"""The public face: load a spec, predict, measure, run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lensnet.catalog.component import Component
from lensnet.catalog.locate import find_spec
from lensnet.levels.ladder import Level
from lensnet.network.build import load_network
from lensnet.network.graph import Network
from lensnet.quantities.rows import DEFAULT_ROWS
from lensnet.report.progress import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray
    from torch import Tensor

    from lensnet.compare.report import Report
    from lensnet.compare.settings import Settings
    from lensnet.construct.network import Constructed
    from lensnet.measure.ensemble import Progress
    from lensnet.predict.kernel.tangent import Parametrisation, PositionMode


AUTO = "auto"


@dataclass(frozen=True)
class Net:
    """A loaded network: the graph, and the three things one does with it.

    `predict` needs no forward pass, `measure` no formula; `run` puts one beside the other.
    """

    network: Network
    components: tuple[Component, ...] = ()

    @property
    def name(self) -> str:
        return self.network.name

    def predict(
        self, settings: Settings | None = None, gradients: bool = True, level: str = "moments", **options: Any
    ) -> Report:
        """What the effect models of a level say, from the network's input alone; `level` as for `run`."""
        engine = _engine(self.network, "lensnet.predicting")
        report: Report
        if level == AUTO:
            report = engine.predict_down(self.network, settings, gradients, **options)
        else:
            report = engine.predict(self.network, settings, gradients, levels_of(level), **options)
        return report

    def measure(
        self, seeds: int = 8, level: str = "moments", progress: Progress | bool = True, **options: Any
    ) -> Report:
        """Real forward and backward passes over weight draws; options as for `run`."""
        with counted(self.name, progress) as bar:
            report: Report = _engine(self.network).measure_only(
                self.network, seeds, levels_of(level), progress=bar, **options
            )
        return report

    def run(
        self,
        seeds: int = 8,
        *,
        level: str = "auto",
        settings: Settings | None = None,
        device: str = "auto",
        dtype: str | None = None,
        backward: bool = True,
        first_seed: int = 0,
        most_seeds: int | None = None,
        progress: Progress | bool = True,
        rows: int = DEFAULT_ROWS,
        weights: Mapping[str, Tensor] | None = None,
    ) -> Report:
        """Predicted beside measured for every component.

        seeds: weight draws. level: `moments`, `kernel`, `spectrum`, `fluctuation`, `all`, or `auto` for
        the cheapest level that holds, number by number. rows: most rows of the
        sample matrices that the levels below the moments look at. most_seeds: with undecided rows left, more seeds are
        added up to this number (default 4 * seeds). device: auto, cpu or cuda. dtype: float32, float64, ... (default
        float32; float64 for the steps of an algorithm). weights: tensors of a constructed network, instead of draws.
        progress: a bar where stderr is a terminal, False for none, or your own. Raises DeviceError for an absent
        device.
        """
        options: dict[str, Any] = {
            "settings": settings, "device": device, "backward": backward, "first_seed": first_seed,
            "most_seeds": most_seeds, "rows": rows, "weights": weights,
        }  # fmt: skip
        if dtype is not None:
            options["dtype"] = dtype
        engine = _engine(self.network)
        report: Report
        with counted(self.name, progress) as options["progress"]:
            if level == AUTO:
                report = engine.run_down(self.network, seeds, **options)
            else:
                report = engine.run(self.network, seeds, levels=levels_of(level), **options)
        return report

    def construct(self, out: str | Path | None = None, progress: Progress | bool = True, **options: Any) -> Constructed:
        """Make the layers that are made from data (ReduNet, nearest subspace) from the network's labelled input.

        out: a .safetensors file; the beginning of the same construction in it is gone on with. Options as for
        `lensnet.construct.network.construct_network`: device, dtype, seed, overwrite; progress as for `run`.
        """
        from lensnet.construct.network import construct_network

        with counted(self.name, progress, "layers") as bar:
            return construct_network(self.network, None if out is None else Path(out), progress=bar, **options)

    def nngp(self, batch: ArrayLike | None = None, mode: PositionMode = "auto") -> NDArray[np.float64]:
        """Covariance of the outputs over weight draws at infinite width, `(N, N)` over examples (times positions).

        batch: inputs in torch layout (an array, or anything numpy reads); default the network's own input. mode:
        `full` follows every pair of positions, `stationary` every displacement, `averaged` the averages over equal and
        over different positions, `auto` what fits. Raises KernelError where a component has no kernel formula.
        """
        from lensnet.predict.kernel.tangent import nngp

        return nngp(self.network, self._batch(batch), mode)

    def ntk(self, batch: ArrayLike | None = None, parametrisation: Parametrisation = "ntk") -> NDArray[np.float64]:
        """Neural tangent kernel of one output channel at infinite width, `(E, E)`.

        parametrisation: `ntk` (weights as scale times unit normal; the layers' blocks do not depend on the width), or
        `standard` (derivatives by the weights themselves, as torch counts them). batch and errors as for `nngp`.
        """
        from lensnet.predict.kernel.tangent import ntk

        return ntk(self.network, self._batch(batch), parametrisation)

    def _batch(self, batch: ArrayLike | None) -> NDArray[np.float64]:
        import numpy as np

        if batch is not None:
            return np.asarray(batch, dtype=float)
        from lensnet.measure.sources import load_batch

        return np.asarray(load_batch(self.network.input).double().numpy())


def _engine(network: Network, of_layers: str = "lensnet.run") -> Any:
    """The module that runs a network: of layers, or of the steps of an algorithm."""
    return import_module(of_layers if network.input.objective is None else "lensnet.algorithm")


def levels_of(level: str) -> tuple[Level, ...]:
    """One level by name, or all of them; `auto` begins with the moments. Raises ValueError for a name that is none."""
    if level == "all":
        return tuple(Level)
    if level == AUTO:
        return (Level.MOMENTS,)
    try:
        return (Level(level),)
    except ValueError:
        known = ", ".join(map(str, Level))
        raise ValueError(f"there is no level {level!r}; known: {known}, all") from None


def load(name: str | Path, overrides: Iterable[str] = ()) -> Net:
    """A network by file, or by the name of a bundled spec.

    overrides: `path=value` strings as for `--set`. Raises SpecError with every problem found, each with its place.
    """
    loaded = load_network(find_spec(name), overrides)
    return Net(loaded.network, tuple(loaded.components.values()))


__all__: Sequence[str] = ("Net", "load")

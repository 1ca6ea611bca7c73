"""`lensnet.summary(model, input_size=...)`: one call, and an object that prints as the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn.parameter import is_lazy

from lensnet.catalog.component import Component
from lensnet.catalog.neighbours import components_in
from lensnet.compare.beside import Beside
from lensnet.compare.report import Report
from lensnet.compare.row import Row
from lensnet.importers.build import parameter_counts
from lensnet.importers.capture import ImportRefused
from lensnet.importers.examples import InputRefused, Size, call_of
from lensnet.importers.measuring import ModelBench
from lensnet.importers.model import ImportedModel, Weights, import_model
from lensnet.importers.untouched import sharded, unwrapped
from lensnet.network.graph import Network
from lensnet.report.progress import counted

if TYPE_CHECKING:
    import pandas

    from lensnet.compare.settings import Settings
    from lensnet.importers.structure import Structure
    from lensnet.measure.ensemble import Progress


@dataclass
class Summary:
    """A model, predicted beside measured. Prints as a tree of its modules with the findings below.

    `report`: the report of `lensnet run` on the imported network, None where the model could not be imported (`reason`
    says why). `imported`: network, graph and laws. `parameters`: numbers by component. `structure`: every matrix of
    given weights beside a random one. `depth`: how deep the tree is shown. `mode`: eval or train, in which it was run.
    """

    name: str
    report: Report | None = None
    imported: ImportedModel | None = None
    reason: str = ""
    notes: list[str] = field(default_factory=list)
    parameters: Mapping[str, int] = field(default_factory=dict)
    modules: Sequence[tuple[str, str, int]] = ()
    total: int = 0
    depth: int = 3
    structure: Sequence[Structure] = ()
    mode: str = "eval"

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every row of the report; none where the model could not be imported."""
        return self.report.rows if self.report is not None else ()

    @property
    def network(self) -> Network | None:
        return self.imported.network if self.imported is not None else None

    @property
    def spec(self) -> str:
        """The network as a file that `lensnet run` takes, its input declared by a law. Raises ImportRefused."""
        if self.imported is None:
            raise ImportRefused(self.reason)
        return self.imported.text

    def save(self, path: str | Path) -> None:
        """Write the network file.

        Where tensors were given (`input_data`), they are written beside it as `NAME.input.safetensors` and are its
        input, so that the file predicts from what was measured here. Raises ImportRefused, OSError.
        """
        from lensnet.importers.sample import write

        if self.imported is None:
            raise ImportRefused(self.reason)
        write(self.imported, Path(path))

    def to_pandas(self) -> pandas.DataFrame:
        """The rows as a table; needs pandas."""
        if self.report is None:
            raise ImportRefused(self.reason)
        return self.report.to_pandas()

    def beside(self, other: Summary, names: tuple[str, str] = ("first", "second")) -> Beside:
        """Two summaries side by side: before and after a change of initialisation, or two checkpoints.

        Raises ImportRefused where one of them has no report.
        """
        for one in (self, other):
            if one.report is None:
                raise ImportRefused(f"{one.name}: {one.reason}")
        assert self.report is not None and other.report is not None
        return Beside(self.report, other.report, names)

    def show(self, depth: int | None = None, width: int | None = None) -> str:
        """The summary as text; `depth` of the module tree, `width` in columns."""
        from lensnet.importers.display import text

        return text(replace(self, depth=self.depth if depth is None else depth), width)

    def __str__(self) -> str:
        return self.show()

    __repr__ = __str__

    def __rich__(self) -> Any:
        from lensnet.importers.display import renderable

        return renderable(self)

    def _repr_html_(self) -> str:
        from lensnet.importers.display import html

        return html(self)


def summary(
    model: nn.Module,
    input_size: Size | None = None,
    *,
    input_data: Any = None,
    seeds: int = 8,
    most_seeds: int | None = None,
    depth: int = 3,
    mode: str = "eval",
    weights: Weights = "auto",
    backward: bool = True,
    measure: bool = True,
    settings: Settings | None = None,
    progress: Progress | bool = True,
    components: Sequence[str | Path] = (),
) -> Summary:
    """Predict what every component of a torch model does to its signal, measure it, and show both.

    input_size: as (8, 3, 224, 224), the examples first; several sizes for several inputs. input_data: your own tensors
    (a tensor, a tuple of arguments, a mapping of named ones). mode: eval or train. weights: `designed` draws fresh
    weights from the laws that the given ones were drawn from; `built` measures the given ones; `auto` looks. seeds:
    weight draws (for given weights: draws of the input). measure: off for a prediction alone. components: component
    files (or folders of them) whose `matches:` name modules of this model; raises SpecError where one is wrong.
    progress: a bar where stderr is a terminal, False for none, or your own.

    The model is left as it was, bit for bit. What cannot be imported gives a summary with a `reason` and what is known.
    """
    inner, own = unwrapped(model), components_in(components)
    out = Summary(type(inner).__name__, depth=depth, mode=mode)
    out.modules, out.total = _modules(inner)
    with counted(out.name, progress) as bar:
        try:
            out.imported = _imported(inner, input_size, input_data, mode, weights, own)
        except (ImportRefused, InputRefused) as error:
            out.reason = str(error)
            return out
        measure = measure and not out.imported.captured.on_meta
        _filled(out, inner, out.imported, seeds, most_seeds, backward, measure, settings, bar)
    return out


def _filled(
    out: Summary, inner: nn.Module, imported: ImportedModel, seeds: int, most: int | None, backward: bool,
    measure: bool, settings: Settings | None, progress: Progress,
) -> None:  # fmt: skip
    out.parameters = parameter_counts(imported.draft.items, imported.captured.parameters)
    out.notes = imported.notes
    if packed := _quantised(inner):
        backward = False
        imported.notes.append(
            f"quantised modules are not modelled and have no gradients ({', '.join(packed[:6])}): forward alone, with "
            "the weights that they hold"
        )
    if out.mode == "eval" and (idle := _idle_norms(inner)):
        imported.notes.append(
            f"{idle[0]}{f' and {len(idle) - 1} more' * (len(idle) > 1)}: a batch norm that has seen no batch has "
            "running mean 0 and variance 1 and changes nothing in eval mode; train mode has the batch's own statistics"
        )
    _measured(out, ModelBench(imported), seeds, most, backward, measure, settings, progress)
    _structured(out)


def _imported(
    model: nn.Module, size: Size | None, data: Any, mode: str, weights: Weights, components: Mapping[str, Component]
) -> ImportedModel:
    if mode not in ("eval", "train"):
        raise InputRefused(f"mode is eval or train, not {mode!r}")
    if any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
        raise ImportRefused("the model has lazy modules that know no shapes yet: call it once on an input of its own")
    if sharded(model):
        raise ImportRefused("its weights are sharded over processes: give a model that holds them whole")
    first: ImportRefused | None = None
    for args, kwargs in call_of(model, size, data):
        try:
            imported = import_model(
                model, args, kwargs, training=mode == "train", weights=weights, components=components
            )
        except ImportRefused as error:
            first = first or error
            continue
        imported.synthetic = data is None
        return imported
    assert first is not None
    raise first


def _quantised(model: nn.Module) -> list[str]:
    """Paths of the modules of torch's quantised layers; the packed weights inside them are not named."""
    return [
        path or type(module).__name__ for path, module in model.named_modules()
        if type(module).__module__.startswith("torch.") and ".quantized." in f"{type(module).__module__}."
        and not type(module).__name__.endswith("PackedParams")
    ]  # fmt: skip


def _idle_norms(model: nn.Module) -> list[str]:
    """Paths of the batch norms whose running statistics are those that they were made with."""
    return [
        path or type(module).__name__ for path, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.num_batches_tracked is not None
        and not module.num_batches_tracked.is_meta and module.num_batches_tracked == 0
    ]  # fmt: skip


def _measured(
    out: Summary, bench: ModelBench, seeds: int, most: int | None, backward: bool, measure: bool,
    settings: Settings | None, progress: Progress,
) -> None:  # fmt: skip
    try:
        _reported(out, bench, seeds, most, backward, measure, settings, progress)
    except Exception as error:  # a report that cannot be made must not take the import with it
        out.reason = f"no report could be made: {type(error).__name__}: {str(error)[:300]}"


def _structured(out: Summary) -> None:
    """What given weights have learned, as a table and as findings of the report."""
    from lensnet.importers.structure import findings, structures

    if out.imported is not None and out.imported.built:
        out.structure = structures(out.imported, out.rows)
        if out.report is not None:
            out.report = replace(out.report, findings=(*out.report.findings, *findings(out.structure)))


def _reported(
    out: Summary, bench: ModelBench, seeds: int, most: int | None, backward: bool, measure: bool,
    settings: Settings | None, progress: Progress,
) -> None:  # fmt: skip
    from lensnet.importers.sample import sample_of
    from lensnet.measure.errors import MeasureError
    from lensnet.predicting import predict
    from lensnet.run import run

    imported, network = bench.imported, bench.imported.network
    out.notes = [*imported.notes, *sample_of(imported).remarks]
    if measure:
        try:
            out.report = run(
                given(network), seeds, settings=settings, backward=backward, most_seeds=most, progress=progress,
                batch=bench.batch(), measure=bench.measure,
            )  # fmt: skip
            return
        except MeasureError as error:
            out.reason = f"not measured: {error}"
    elif imported.captured.on_meta:
        out.notes.append("not measured: the model is on the meta device and has no numbers")
    if imported.synthetic or bench.batch().is_meta:
        out.report = predict(network, settings, gradients=backward)
    else:
        out.report = predict(given(network), settings, gradients=backward, batch=bench.batch())


def given(network: Network) -> Network:
    """The network with the moments of the actual batch at its input, not those of a declared law."""
    if network.input.source == "tokens":
        return network
    return replace(network, input=network.input._replace(source="given"))


def _modules(model: nn.Module) -> tuple[list[tuple[str, str, int]], int]:
    """(path, class, parameters of its own) of every module, and all parameters, shared ones once."""
    out = [
        (path, type(module).__name__, sum(map(_numel, module.parameters(recurse=False))))
        for path, module in model.named_modules()
    ]
    return out, sum(map(_numel, model.parameters()))


def _numel(parameter: nn.Parameter) -> int:
    return 0 if is_lazy(parameter) else parameter.numel()

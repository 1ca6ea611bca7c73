"""ReduNet's layer, the sphere it lives on, and the nearest-subspace classifier that reads its features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lensnet.measure.errors import ImplementationError
from lensnet.measure.examples import examples_now
from lensnet.measure.layers.constructed import ConstructedLayer
from lensnet.measure.layers.registry import implementation, parameter
from lensnet.measure.redunet import step
from lensnet.measure.redunet.coefficients import Transform
from lensnet.measure.redunet.operators import Construction, Operators, construct
from lensnet.network.graph import Node
from lensnet.quantities.coding_rate import Rates
from lensnet.quantities.subspaces import class_subspaces, gate_entropy


class Sphere(nn.Module):
    """x / max(|x|, 1e-8), the norm over the channels of a position, or over a whole example."""

    def __init__(self, axis: int | None) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, x: Tensor) -> Tensor:
        if self.axis is None:
            return step.project(x)
        return x / torch.linalg.vector_norm(x, dim=self.axis, keepdim=True).clamp_min(step.CLAMP)


@implementation("sphere")
def sphere(node: Node) -> Sphere:
    return Sphere(node.shapes_in[0].channel_axis if parameter(node, "over", "channels") == "channels" else None)


class RedunetLayer(ConstructedLayer):
    """z' = P(z + eta (E z - Sum_j gam_j pi_j(z) C_j z)).

    On vectors (N, C), or per frequency on signals (N, T, C) and images (N, C, H, W). `expansion` (F, C, C) and
    `compression` (k, F, C, C) hold E and C_j; those of a spectrum are complex and stored with a last axis of 2.
    `rates`: R, Rc and dR of the features that the operators were made from.
    """

    def __init__(self, node: Node) -> None:
        super().__init__()
        shape = node.shapes_in[0]
        self.path = node.path
        self.classes = int(node.parameters["classes"])
        self.eps2, self.eta = float(node.parameters["eps2"]), float(node.parameters["eta"])
        self.lam, self.by_label = float(node.parameters["lam"]), node.parameters["gate"] == "label"
        self.sphere = bool(parameter(node, "sphere", True))
        self.transform = Transform(shape, parameter(node, "transform", "plain") == "orthonormal")
        size = (self.transform.frequencies, shape.channels, shape.channels)
        pair = (2,) if self.transform.complex else ()
        self.expansion = nn.Parameter(torch.zeros(*size, *pair))
        self.compression = nn.Parameter(torch.zeros(self.classes, *size, *pair))
        self.shares = nn.Parameter(torch.zeros(self.classes))
        self.rates: Rates | None = None
        self.entropy = float("nan")  # of the gates of the examples it was made from, mean, nats

    @property
    def operators(self) -> Operators:
        if self.transform.complex:
            pair = torch.view_as_complex(self.expansion), torch.view_as_complex(self.compression)
            return Operators(*pair, self.shares)
        return Operators(self.expansion, self.compression, self.shares)

    def gates(self, x: Tensor) -> Tensor:
        """How much each class claims each example, (N, k). `gate: label` opens the class of an example where the
        running pass knows it (`lensnet.measure.examples`); other examples are judged softly."""
        v = self.transform.forward(x)
        now = examples_now() if self.by_label else None
        labels = None if now is None else now.labels_of(x)
        if labels is not None:
            return step.one_hot(labels, self.classes, v)
        return step.soft_gate(step.class_norms(self.operators, v, self.transform.weights(v)), self.lam)

    def forward(self, x: Tensor) -> Tensor:
        v = self.transform.forward(x)
        return self._moved(x, step.ascent(self.operators, v, self.gates(x)))

    @torch.no_grad()
    def construct(self, x: Tensor, labels: Tensor) -> Tensor:
        v = self.transform.forward(x)
        weights = self.transform.weights(v)
        try:
            made = construct(v, labels, self.classes, self.eps2, weights)
        except ValueError as error:
            raise ImplementationError(f"{self.path}: {error}") from None
        self._keep(made)
        if self.by_label:
            self.entropy = 0.0
            return self._moved(x, step.ascent_by_label(made, v))
        gates = step.soft_gate(step.training_norms(made, v, weights), self.lam)
        self.entropy = float(gate_entropy(gates).mean())
        return self._moved(x, step.ascent(made.operators, v, gates))

    def rates_of(self, x: Tensor, labels: Tensor) -> Rates:
        """R, Rc and dR of labelled features of the layer's shape, in float64."""
        v = self.transform.forward(x.double())
        return construct(v, labels, self.classes, self.eps2, self.transform.weights(v)).rates

    def draw_operators(self, source: torch.Generator) -> None:
        """Those of random subspaces: a Gaussian cloud per class in half of the directions."""
        shape = self.transform.shape
        count = 2 * shape.channels
        labels = torch.arange(self.classes).repeat_interleave(count)
        basis = torch.randn(self.classes, max(shape.channels // 2, 1), shape.channels, generator=source)
        size = (self.classes, count, shape.position_count, basis.shape[1])
        x = torch.einsum("knpr,krc->knpc", torch.randn(size, generator=source), basis).flatten(0, 1)
        x = x.reshape(len(x), *shape.positions, shape.channels).movedim(-1, shape.channel_axis)
        v = self.transform.forward(step.project(x).to(self.expansion))
        self._keep(construct(v, labels.to(v.device), self.classes, self.eps2, self.transform.weights(v)))
        self.constructed = False

    def _keep(self, made: Construction) -> None:
        found = made.operators
        real = torch.view_as_real if self.transform.complex else torch.Tensor.contiguous
        with torch.no_grad():
            for mine, value in ((self.expansion, real(found.expansion)), (self.compression, real(found.compression))):
                mine.copy_(value)
            self.shares.copy_(found.shares)
        self.rates = made.rates
        self.constructed = True

    def _moved(self, x: Tensor, direction: Tensor) -> Tensor:
        moved = x + self.eta * self.transform.backward(direction)
        return step.project(moved) if self.sphere else moved


@implementation("redunet_layer")
def redunet_layer(node: Node) -> RedunetLayer:
    return RedunetLayer(node)


class NearestSubspace(ConstructedLayer):
    """|x - B_j B_j' x|^2 for every class j: the energy outside the class's subspace. The smallest names the class."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        channels = node.shapes_in[0].channels
        self.path, self.axis = node.path, node.shapes_in[0].channel_axis
        self.classes, self.components = int(node.parameters["classes"]), int(node.parameters["components"])
        if self.components > channels:
            raise ImplementationError(f"{node.path}: {self.components} components of {channels} channels")
        self.basis = nn.Parameter(torch.zeros(self.classes, channels, self.components))

    def forward(self, x: Tensor) -> Tensor:
        rows = x.movedim(self.axis, -1)
        inside = torch.einsum("...c,kcr->...kr", rows, self.basis).square().sum(-1)
        return (rows.square().sum(-1, keepdim=True) - inside).movedim(-1, self.axis)

    @torch.no_grad()
    def construct(self, x: Tensor, labels: Tensor) -> Tensor:
        try:
            self.basis.copy_(class_subspaces(x.movedim(self.axis, -1), labels, self.classes, self.components))
        except ValueError as error:
            raise ImplementationError(f"{self.path}: {error}") from None
        self.constructed = True
        return self(x)

    def draw_operators(self, source: torch.Generator) -> None:
        """Random subspaces, uniformly distributed."""
        random = torch.randn(self.basis.shape, generator=source, dtype=torch.float64)
        self.basis.copy_(torch.linalg.qr(random)[0])


@implementation("nearest_subspace")
def nearest_subspace(node: Node) -> NearestSubspace:
    return NearestSubspace(node)

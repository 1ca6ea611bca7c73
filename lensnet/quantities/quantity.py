"""What can be predicted and measured: one definition serves both sides."""

from __future__ import annotations

from typing import Literal, NamedTuple

from lensnet.levels.ladder import Level

Scale = Literal["linear", "log", "nats", "bits", "count", "bounded"]


class Quantity(NamedTuple):
    """A named number (or field) of a signal.

    `definition` says what is averaged over what, for prediction and measurement alike; `scale` how two values of it
    compare (`log`: as a ratio; `bounded`: a cosine, whose size is 1); `shape` what the estimator returns: `scalar`,
    `examples` (E,), `field` (E, *positions), or a matrix.
    """

    name: str
    symbol: str
    level: Level
    scale: Scale
    definition: str
    shape: str = "field"


def _moments(name: str, symbol: str, scale: Scale, definition: str, shape: str = "field") -> Quantity:
    return Quantity(name, symbol, Level.MOMENTS, scale, definition, shape)


def _kernel(name: str, symbol: str, shape: str, definition: str) -> Quantity:
    return Quantity(name, symbol, Level.KERNEL, "linear", definition, shape)


def _of_samples() -> list[Quantity]:
    """Numbers of the Gram matrix between samples and of its spectrum: one for a component."""
    cosine = "average cosine between the signals of"
    backward = "backward: of dL/dx, L = sum_e <r, y_e> with one r for all examples"
    kernel = [
        ("correlation", "c", f"{cosine} two examples at the same position; {backward}"),
        ("position_cosine", "c_p", f"{cosine} two positions of one example; {backward}"),
    ]
    spectrum: list[tuple[str, str, Scale, str]] = [
        ("rank", "rank", "count", "eigenvalues of the sample Gram matrix above 1e-5 of the largest"),
        ("stable_rank", "r_s", "count", "sum of the eigenvalues over the largest"),
        ("effective_rank", "r_e", "count", "exp of the entropy of the singular values (Roy and Vetterli 2007)"),
        ("participation_ratio", "PR", "count", "(sum of eigenvalues)^2 over the sum of their squares"),
        ("coding_rate", "R", "nats", "1/2 logdet(I + d/(rows*eps2) G), eps2 = 0.5, nats per sample matrix"),
    ]
    return [
        *(Quantity(name, sign, Level.KERNEL, "bounded", text, "scalar") for name, sign, text in kernel),
        *(Quantity(name, sign, Level.SPECTRUM, scale, text, "scalar") for name, sign, scale, text in spectrum),
    ]


def _of_jacobians() -> list[Quantity]:
    """Numbers of the singular values s of the Jacobian from the network's input to an output."""
    of = "of the Jacobian dz/dx from the network's input x, per example"
    texts: list[tuple[str, str, str]] = [
        ("jacobian_gain", "s²", f"mean squared singular value {of}"),
        ("jacobian_spread", "var s²", f"relative variance of the squared singular values {of}; 0 for an isometry"),
        ("jacobian_low", "s 10%", f"singular value below which 10 % of them lie, {of}"),
        ("jacobian_high", "s 90%", f"singular value below which 90 % of them lie, {of}"),
    ]
    return [Quantity(name, sign, Level.SPECTRUM, "log", text, "scalar") for name, sign, text in texts]


def _of_labels() -> list[Quantity]:
    """Coding rates of labelled features, of a whole batch, and what a step of ascent on them gains."""
    out = [
        Quantity(name, sign, Level.SPECTRUM, "nats", text, "scalar")
        for name, sign, text in (
            ("total_rate", "R_Z", "R = 1/2 logdet(I + alpha Z'Z) of all examples' features (lensnet.coding_rate)"),
            ("class_rate", "R_c", "Rc = sum over classes of their share times the rate of their features"),
            ("rate_reduction", "ΔR", "R - Rc (lensnet.rate_reduction)"),
            ("ascent_gain", "gain", "rate reduction of the output minus that of the input"),
            ("ascent_gain_first", "gain₁", "the same, beside what the first order in the step predicts"),
        )
    ]
    rank = "singular values of a class's features above 1e-6 of the largest, averaged over classes"
    out.append(Quantity("class_rank", "r_c", Level.SPECTRUM, "count", rank, "scalar"))
    angle = "principal angle between two classes, in radians, each the fewest directions with 95 % of its energy"
    out.append(Quantity("class_angle", "θ_min", Level.SPECTRUM, "linear", f"smallest {angle}", "scalar"))
    out.append(Quantity("class_angle_largest", "θ_max", Level.SPECTRUM, "linear", f"largest {angle}", "scalar"))
    entropy = "-sum_j pi_j log pi_j of a gate's shares, averaged over examples: 0 decided, log k undecided"
    out.append(Quantity("gate_entropy", "H", Level.SPECTRUM, "nats", entropy, "scalar"))
    out.append(Quantity("class_rank_before", "r_c", Level.SPECTRUM, "count", f"{rank}, at the input", "scalar"))
    out.append(Quantity("made_from_data", "made", Level.SPECTRUM, "linear", "1 where a layer was made from data"))
    for part, sign in (("total", "R"), ("reduction", "ΔR")):
        places = {"before": "at the input"} | {f"order_{n}": f"order {n} in the layer's step" for n in range(1, 6)}
        for name, text in places.items():
            out.append(Quantity(f"{part}_{name}", sign, Level.SPECTRUM, "linear", f"{part} rate: {text}", "scalar"))
    return out


def _of_algorithms() -> list[Quantity]:
    """Numbers of the iterate of an algorithm, after a step: one for a step."""
    share = "share of what has to be found that is still missing along"
    remaining = f"{share} the eigen-direction of the"
    given: list[tuple[str, str, Scale, str]] = [
        ("loss", "f", "log", "the objective at the iterate"),
        ("error_norm", "|e|", "log", "norm of what vanishes at the solution"),
        ("error_steepest", "e_max", "log", f"{remaining} largest curvature"),
        ("error_flattest", "e_min", "log", f"{remaining} smallest curvature"),
        ("error_mode", "e", "log", f"{share} an eigen-direction, by its number from 0"),
        ("alignment", "cos", "bounded", "cosine between what the step took away from the error and the error"),
        ("condition_number", "cond", "log", "largest over smallest curvature at the iterate (eigenvalues of J J^T)"),
    ]
    return [Quantity(name, sign, Level.SPECTRUM, scale, text, "scalar") for name, sign, scale, text in given]


# The sets over which a norm takes its statistics: all samples of the batch, the positions of an example, a group.
_SETS = {
    "batch": ("scalar", "two samples (examples or positions) of one channel"),
    "position": ("examples", "two positions of one channel of one example"),
    "group": ("examples", "two samples of one group of channels of one example"),
}


def _set_quantities() -> list[Quantity]:
    out = []
    for name, (shape, pair) in _SETS.items():
        spread = "how unequal the variances V of the sets are, E(V + eps) E 1/(V + eps)"
        out += [
            _kernel(f"{name}_correlation", "rho", shape, f"average centred correlation between {pair}"),
            _kernel(f"{name}_dispersion", "D", shape, spread),
            _kernel(
                f"gradient_{name}_correlation",
                "rho_g",
                shape,
                f"the same of the gradient at the output, between {pair}",
            ),
            _kernel(
                f"gradient_{name}_alignment", "rho_a", shape, "the same of the gradient times the normalised signal"
            ),
            _kernel(
                f"gradient_{name}_dispersion", "D_g", shape, f"{spread}, weighted by the gradient's power in a set"
            ),
        ]
    return out


def _over_draws() -> list[Quantity]:
    """Numbers of the distribution of a second moment (the batch average) over weight draws."""
    texts: list[tuple[str, str, Scale, str]] = [
        ("median", "typical", "log", "median over weight draws of the second moment: the typical value"),
        ("scatter", "sd ln", "log", "standard deviation over weight draws of the logarithm of the second moment"),
        ("band", "band", "bounded", "share of the weight draws whose second moment lies in the predicted 90 % band"),
    ]
    rounding = "rms of (z - exact z) over rms of z: what the number format of the forward pass loses, weights as drawn"
    texts.append(("rounding", "round", "log", rounding))
    return [Quantity(name, sign, Level.FLUCTUATION, scale, text, "scalar") for name, sign, scale, text in texts]


OF_THE_WHOLE_WAY = tuple(quantity.name for quantity in _of_jacobians())
"""Quantities of the way from the network's input, which no component has on its own."""

OVER_DRAWS = ("median", "scatter", "band")
"""Quantities that no single weight draw has."""

QUANTITIES: dict[str, Quantity] = {
    quantity.name: quantity
    for quantity in (
        _moments("mean", "m", "linear", "E x over channels and weight draws, per example and position"),
        _moments("second_moment", "q", "log", "E x^2, as the mean; backward: of dL/dx with L = <r, y>"),
        _moments("invariant", "I", "linear", "<x, dL/dx> summed over the batch", "scalar"),
        *_of_samples(),
        *_of_jacobians(),
        *_of_labels(),
        *_of_algorithms(),
        *_set_quantities(),
        *_over_draws(),
        _kernel("cross_moment", "k", "field", "E a b over channels, of two signals that meet"),
        _kernel(
            "length_dispersion", "D", "examples", "E_c L^2 / (E_c L)^2 of the lengths L of channels over positions"
        ),
        _kernel("token_correlation", "rho", "examples", "E_c x_i x_j averaged over pairs of positions i != j, over q"),
        _kernel(
            "evenness", "eta", "examples", "x[t, c] x[-t, -c] summed over places and channels, over the sum of x^2"
        ),
        _kernel("gradient_evenness", "eta_g", "examples", "the same of the gradient at the output"),
        _kernel(
            "gradient_token_dispersion",
            "D_g",
            "examples",
            "E_t P/V E_t V / E_t P, V + eps the variance over channels at a position t, P that of the gradient",
        ),
        _kernel("gradient_token_power_dispersion", "D_g", "examples", "the same with the mean square over channels"),
        _kernel("token_gram", "G", "(E, T, T)", "E_c x_i x_j for every pair of positions"),
        *(
            _kernel(f"{port}_gram", "G", "(E, T, T)", f"E_c x_i x_j for every pair of positions, of the {port} port")
            for port in ("query", "key", "value", "x", "step", "b", "c")
        ),
        *(
            _kernel(f"{side}_{name}", sign, "matrix", f"{text} of a contraction, of the {side} signal")
            for side in ("left", "right")
            for name, sign, text in (
                ("gram", "A", "E x_k x_l along the summed axis"),
                ("profile", "a", "E x_k along the summed axis"),
                ("free_gram", "F", "E x_f x_g along the axis brought along"),
            )
        ),
        *(
            _kernel(f"gradient_{side}_gram", "P", "matrix", f"E g_f g_g along the axis that the {side} brought along")
            for side in ("left", "right")
        ),
        _kernel(
            "gradient_shares_correlation",
            "rho_g",
            "examples",
            "of the gradient at the output of a softmax, between two places (or channels) that share one unit",
        ),
        _kernel("gradient_gram", "P", "(E, T, T)", "E_c g_i g_j of the gradient at the output, for every pair"),
        _kernel("window_correlation", "rho", "scalar", "average centred correlation between two taps of a window"),
        _kernel("window_gram", "W", "(k, k)", "E_c x_a x_b for every pair of taps, averaged over windows"),
        _kernel(
            "window_products", "W", "(E, *positions_out, pairs)", "E_c x_a x_b for every pair of taps of every window"
        ),
        _kernel(
            "gradient_window_correlation", "rho_g", "scalar", "correlation of the gradients of windows that overlap"
        ),
        _kernel("gradient_signal_coherence", "C", "examples", "E_c (sum_i g_i x_i)^2 over sum_i E_c g_i^2 E_c x_i^2"),
        _kernel("batch_mean_square", "S", "scalar", "E_c (mean of x_c over examples and positions)^2"),
        _kernel("batch_overlap", "r", "field", "E_c x_c times the mean of x_c over examples and positions"),
        _kernel("position_mean_square", "S", "examples", "E_c (mean of x_c over the positions of an example)^2"),
        _kernel("position_overlap", "r", "field", "E_c x_c times the mean of x_c over the positions of its example"),
    )
}

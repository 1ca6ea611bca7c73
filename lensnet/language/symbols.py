"""What the formulas of a component may name: its own parameters and what the engine supplies at its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

from lensnet.language.component_spec import ChoiceParameter, ComponentSpec

# Shapes and counts, known before anything is propagated.
SHAPE_SYMBOLS: Mapping[str, str] = {
    "channels": "channels of the (first) input",
    "channels_out": "channels of the output",
    "channels_total": "channels of all ports together",
    "channels_last": "channels of the last port",
    "positions": "number of input positions",
    "positions_out": "number of output positions",
    "examples": "number of examples in the batch",
    "ports": "number of input ports",
    "tied": "1 where the weights are those of another component, else 0",
    "windows": "windows of attention that the positions are cut into",
    "window_taps": "taps of the window",
    "window_overlap": "most outputs that share one input",
    "window_largest": "most taps inside the input that a window has",
}
# For every weight tensor; `_name` is appended unless the tensor is called `weight`.
WEIGHT_SYMBOLS: Mapping[str, str] = {
    "fan_in": "inputs that one unit sums",
    "fan_out": "units that one input feeds",
    "w2": "variance of one weight",
    "g": "gain: sqrt(fan_in*w2)",
    "b_0": "mean of a bias",
    "sigma_b": "standard deviation of a bias",
    "weight_kurtosis": "excess kurtosis of one weight",
}
# The signal, at the levels whose formulas see it. `_port` is appended when there are several ports.
PORT_SYMBOLS: Mapping[str, str] = {
    "m": "mean",
    "q": "second moment",
    "v": "variance, q - m**2",
}
STATE_SYMBOLS: Mapping[str, str] = {
    "p": "second moment of the gradient at the output",
    "window_count": "taps inside the input, at each output position",
    "window_divisor": "what an average over the window divides by, at each output position",
    "port_channels": "channels of each port",
    "m_here": "mean at the port the gradient goes to",
    "q_here": "second moment at the port the gradient goes to",
    "v_here": "variance at the port the gradient goes to",
    "channels_here": "channels of the port the gradient goes to",
    "drawn": "1 when the moments are expectations over weight draws, 0 when they are one draw's",
    "gaussian": "1 when every port's values are Gaussian",
    "law_known": "1 when the distribution at the port is known",
    "logit_bias": "what is added to the logits of attention, for each window, head, query and key",
    "logit_sink": "logit of what takes a share of the softmax and gives nothing, for each head",
    "code_mean": "mean of the positional code, at each position",
    "code_second_moment": "second moment of the positional code, at each position",
    # kernel level and below
    "k": "E x_1 x_2 of two samples (at the moments level: the cross moment of two ports)",
    "row_pairs": "the same sum of the products of two samples",
    "cross": "E x_1 y_2 of two ports, for every ordered pair of different ones",
    "same": "1 for a sample with itself, else 0",
    "same_place": "1 for two samples at the same position, else 0",
    "same_place_out": "the same of positions of the output",
    "same_example": "1 for two samples of one example, else 0",
    "code_kernel": "product of the positional codes of two positions, averaged over channels",
    "turn_kernel": "cosine of the angle between the turns of two positions, averaged over channels",
    "turn_mean": "the same between a position and the first",
    "theta": "neural tangent kernel",
    "width": "number of neurons",
    "depth": "number of layers so far",
}
# Numbers of one sample that a kernel formula may name for either sample of a pair, with `_1` or `_2` behind them.
SAMPLE_SYMBOLS: Mapping[str, str] = {
    "row_level": "sum over the rows of a table that is the matrix here too of E (input)(row), at each sample",
    **PORT_SYMBOLS,
    "m_mean": "mean, averaged over positions",
    "q_mean": "second moment, averaged over positions",
    "s": "second moment of the average over positions",
    "s_batch": "second moment of the average over examples and positions",
    "m_out": "mean of the output",
    "window_count": STATE_SYMBOLS["window_count"],
    "window_divisor": STATE_SYMBOLS["window_divisor"],
    "code_mean": STATE_SYMBOLS["code_mean"],
}
# Names in a check (`assumes:`) that stand for the quantities themselves.
QUANTITY_SYMBOLS: Mapping[str, str] = {
    "mean": "mean of the input",
    "second_moment": "second moment of the input",
    "variance": "variance of the input",
}
# Of a problem that falls apart into modes, at one iterate: for its quantities, and for the steps of an algorithm on it.
PROBLEM_SYMBOLS: Mapping[str, str] = {
    "modes": "number of modes",
    "lam": "curvature of each mode: sum over its coordinates of (d residual/dz)**2",
    "lam_largest": "largest curvature at this iterate",
    "lam_smallest": "smallest curvature at this iterate",
    "lam_peak": "largest curvature at this iterate or at the solution",
    "hessian_smallest": "smallest eigenvalue of the Hessian of a mode's loss, over all modes",
    "unit_roundoff": "relative rounding error of the number format that is measured in",
}
# Of an objective's quantities: the error of each mode before the step that led here.
BEFORE_SYMBOLS: Mapping[str, str] = {"error_before": "error of each mode before the step"}
# Of the effects of a step: arrays over the modes.
STEP_SYMBOLS: Mapping[str, str] = {
    "z": "this coordinate of the iterate",
    "g": "derivative of the loss by this coordinate",
    "g_after": "the same at the iterate that the step arrives at (an implicit step)",
}
ITERATE = "iterate"  # in the effects of a step: every coordinate in turn
NOISE = "noise"  # the same, of a step that draws: standard deviation of what is added to each, independently
MODE_INDICES = ("i", "j")  # number of a mode, or of a pair, from 0
# Sums over the modes of a problem, and single modes (of the largest and of the smallest curvature).
MODE_OPERATORS: dict[str, int | tuple[int, int]] = {
    "sum_modes": 1,
    "max_modes": 1,
    "min_modes": 1,
    "first_mode": 1,
    "last_mode": 1,
    "entry": 2,
}
# On the product of two matrices whose entries are one coordinate: see lensnet.algebra.linear_product.
PRODUCT_OPERATORS: dict[str, int | tuple[int, int]] = {
    "product_error": 4,
    "product_slope": 4,
    "product_largest": 3,
    "product_smallest": 3,
}
# Operators on fields over positions, and numeric functions of one family: name -> number of arguments.
FIELD_OPERATORS: dict[str, int | tuple[int, int]] = {
    "gather": 1,
    "scatter": 1,
    "gather_squares": 1,
    "scatter_squares": 1,
    "mean_positions": 1,
    "mean_along": 2,
    "mean_batch": 1,
    "everywhere": 1,
    "sum_positions": 1,
    "sum_ports": 1,
    "sum_pairs": 1,
    "in_windows": 2,
    "from_windows": 2,
    "window_mean": 1,
    "contracted_mean": 8,
    "contracted_square": 6,
    "contracted_gradient": 6,
    "window_max_mean": 1,
    "window_max_second_moment": 1,
    "window_max_backward": 2,
    "response": 2,
    "response_pair": 1,
    # on pairs of samples
    "gather_same": 1,
    "gather_all": 1,
    "scatter_same": 1,
    "scatter_all": 1,
    "mean_same": 1,
    "mean_all": 1,
    "mean_left": 1,
    "mean_right": 1,
    "sum_all": 1,
    "everywhere_same": 1,
    "everywhere_all": 1,
    "at_same": 1,
    "at_phase": 2,
    "batch_normalised": 2,
    "batch_normalised_back": 3,
    "normalised_back": 3,
    "window_max_level": 1,
    "window_max_kernel": 1,
    "window_max_gradient": 1,
    "response_level": 1,
    "response_kernel": 2,
    "response_gradient": 2,
    "attended": 6,
    "attended_back": 7,
    "attend_pairs": 7,
    "attend_pairs_back": 9,
    "recurrent_pairs": 6,
    "recurrent_pairs_back": 7,
    "recurrent_hidden": 6,
    "recurrent_hidden_back": 7,
    "attended_path": 8,
    "routed": 4,
    "routed_back": 4,
}
OPERATORS = MODE_OPERATORS | PRODUCT_OPERATORS | FIELD_OPERATORS
# Numeric special functions of lensnet.algebra.special, named here so that a check needs no numpy.
SPECIAL: dict[str, int | tuple[int, int]] = {
    "normal_cdf": 1,
    "normal_pdf": 1,
    "owens_t": 2,
    "max_mean": 1,
    "max_variance": 1,
    "softmax_square_sum": 3,
    "softmax_jacobian": 3,
    "log_sum_mean": 3,
    "log_sum_square": 3,
    "attention_mix": 8,
    "attention_gradient": 10,
    "attend_mix": 12,
    "attend_share": 12,
    "attend_gradient": 15,
    "recurrent_square": 7,
    "added_to_all": 3,
    "recurrent_gradient": 9,
    "scan_mean": 21,
    "scan_square": 21,
    "scan_gradient": 25,
    "gate_mean": 3,
    "gate_square": 3,
    "gate_slope": 3,
    "gate_slope_spread": 3,
    "gate_pull": 3,
    "excitation_mean": 3,
    "excitation_square": 3,
    "excitation_slope": 3,
    "gate_sum": 4,
    "gate_square_sum": 4,
    "gate_jacobian": 4,
    "share_sum": 8,
    "share_square_sum": 8,
    "share_jacobian": 8,
    "gate_kernel": 5,
    "gate_slope_kernel": 5,
    "relu_kernel": 5,
    "relu_slope_kernel": 5,
}
# Operators on tensors, in `forward:` expressions.
TENSOR_OPERATORS: dict[str, int | tuple[int, int]] = {
    "position_mean": 1,
    "channel_mean": 1,
    "example_mean": 1,
    "shift": 2,
}


def constant_symbols(spec: ComponentSpec) -> dict[str, str]:
    """The symbols that the spec alone fixes (parameters, shapes, weights), with what each means."""
    symbols = dict(SHAPE_SYMBOLS) | parameter_symbols(spec)
    for weight in spec.weights:
        suffix = "" if weight == "weight" else f"_{weight}"
        symbols |= {f"{name}{suffix}": about for name, about in WEIGHT_SYMBOLS.items()}
    return symbols


def parameter_symbols(spec: ComponentSpec) -> dict[str, str]:
    """The parameters by name and symbol, and a flag for every choice."""
    symbols: dict[str, str] = {}
    for name, parameter in spec.parameters.items():
        symbols[name] = parameter.about or name
        if parameter.symbol:
            symbols[parameter.symbol] = parameter.about or name
        if isinstance(parameter, ChoiceParameter):
            symbols |= {f"{name}_{choice}": f"1 when {name} is {choice}, else 0" for choice in parameter.choices}
    return symbols


def mode_symbols(spec: ComponentSpec) -> dict[str, str]:
    """What the quantities and assumptions of an objective may name, with what each means."""
    symbols = parameter_symbols(spec)
    if spec.objective is not None:
        symbols |= dict.fromkeys(spec.objective.spectrum, "constant of a mode")
        symbols |= dict.fromkeys(spec.objective.coordinates, "coordinate of the iterate in a mode")
    return symbols | dict(PROBLEM_SYMBOLS) | dict(BEFORE_SYMBOLS)


def effect_symbols(spec: ComponentSpec) -> dict[str, str]:
    """Everything an effect or assumption of the component may name, with what each means."""
    if spec.objective is not None:
        return mode_symbols(spec)
    if spec.acts_on == "state":
        memory = dict.fromkeys(spec.memory, "memory of this coordinate")
        return parameter_symbols(spec) | dict(PROBLEM_SYMBOLS) | dict(STEP_SYMBOLS) | memory | dict(spec.uses)
    symbols = constant_symbols(spec) | dict(PORT_SYMBOLS) | dict(STATE_SYMBOLS) | dict(QUANTITY_SYMBOLS)
    for name, about in SAMPLE_SYMBOLS.items():
        symbols |= {name: about} | {f"{name}_{i}": f"{about}, sample {i} of a pair" for i in (1, 2)}
    ports = spec.ports.names
    if len(ports) > 1:
        for port in ports:
            symbols |= {f"{name}_{port}": f"{about} of {port}" for name, about in PORT_SYMBOLS.items()}
        for pairs in (combinations(ports, 2), combinations(reversed(ports), 2)):
            for a, b in pairs:
                symbols |= {f"k_{a}_{b}": f"E[{a} {b}]; of two samples, {a} of the first and {b} of the second"}
                symbols |= {f"o_{a}_{b}_{i}": f"E[{a} {b}] at sample {i} of a pair" for i in (1, 2)}
        for port in ports:
            symbols |= {f"k_{port}": f"E x_1 x_2 of {port}"}
            for i in (1, 2):
                symbols |= {
                    f"{name}_{port}_{i}": f"{about} of {port}, sample {i}" for name, about in PORT_SYMBOLS.items()
                }
    for name, need in spec.needs.items():
        symbols[need.symbol or name] = need.about or name.replace("_", " ")
    return symbols


def forward_symbols(spec: ComponentSpec) -> Iterable[str]:
    """What a `forward:` expression may name: the ports (tensors) and the parameters."""
    names = [*spec.ports.names, *spec.parameters]
    return names + [parameter.symbol for parameter in spec.parameters.values() if parameter.symbol]

"""From an expression to a flat list of operations (static single assignment, no source text).

Equal subexpressions become one operation: every operation is numbered by its name and arguments, which also finds the
sharing that appears only after an expression has been put in its stable form (`stable.py`).
Operations whose arguments are all constant are evaluated here and now.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lensnet.algebra import logarithms, stable
from lensnet.algebra.constants import number
from lensnet.algebra.numpy_backend import NUMPY_OPERATIONS
from lensnet.algebra.program import CALL, SPECIAL, Program, TapeError, allocate
from lensnet.algebra.special import SPECIAL_FUNCTIONS
from lensnet.expressions.functions import Condition, Extremum, Named, Step, Where
from lensnet.expressions.traverse import polynomial
from lensnet.expressions.tree import HALF, Expr, Function, Number, Pi, Power, Product, Sum, Symbol

_COMMUTATIVE = frozenset({"add", "mul", "maximum", "minimum", "eq", "ne", "and", "or"})
_LARGEST_UNROLLED_POWER = 64
_EXTREMA = {"max": "maximum", "min": "minimum"}
_FILL_CANDIDATES = (0.5, -0.5, 1.5, -1.5, 0.05, -0.05, 7.0, -7.0, 60.0, -60.0)


def lower(expressions: Mapping[str, Expr]) -> Program:
    """The program that computes all expressions.

    Raises:
        TapeError: an expression holds a function or constant that no back end knows.
    """
    lowering = Lowering()
    return lowering.finish([lowering.expression(expression) for expression in expressions.values()])


class Lowering:
    """One compilation: emits operations, numbers them by value, keeps the memo of subexpressions."""

    def __init__(self) -> None:
        self._count = 0
        self._inputs: dict[str, int] = {}
        self._constants: dict[int, Any] = {}
        self._constant_slots: dict[Any, int] = {}
        self._steps: list[tuple[str, tuple[int, ...], int]] = []
        self._numbering: dict[tuple[str, tuple[int, ...]], int] = {}
        self._memo: dict[Expr, int] = {}
        self._renamed: dict[str, int] = {}

    # --- emitting -----------------------------------------------------------------------------------------------

    def constant(self, value: float | bool) -> int:
        key = (type(value), value, np.signbit(value))
        if key not in self._constant_slots:
            slot = self._new_slot()
            self._constants[slot] = value
            self._constant_slots[key] = slot
        return self._constant_slots[key]

    def emit(self, operation: str, *arguments: int) -> int:
        """The slot that holds `operation(arguments)`; an equal earlier operation is reused, constants are folded."""
        folded = self._simplified(operation, arguments)
        if folded is not None:
            return folded
        if operation in _COMMUTATIVE:
            arguments = tuple(sorted(arguments))
        key = (operation, arguments)
        if key not in self._numbering:
            slot = self._new_slot()
            self._steps.append((operation, arguments, slot))
            self._numbering[key] = slot
        return self._numbering[key]

    def scaled(self, slot: int, factor: float) -> int:
        return self.emit("neg", slot) if factor == -1.0 else self.emit("mul", slot, self.constant(factor))

    def shifted(self, slot: int, offset: float) -> int:
        return self.emit("add", slot, self.constant(offset))

    def power(self, slot: int, exponent: int) -> int:
        """Positive integer power by repeated squaring, so that x**2 and x**4 share work."""
        if exponent > _LARGEST_UNROLLED_POWER:
            return self.emit("pow", slot, self.constant(float(exponent)))
        result: int | None = None
        square = slot
        while exponent:
            if exponent & 1:
                result = square if result is None else self.emit("mul", result, square)
            exponent >>= 1
            if exponent:
                square = self.emit("square", square)
        assert result is not None
        return result

    def _new_slot(self) -> int:
        self._count += 1
        return self._count - 1

    def _simplified(self, operation: str, arguments: tuple[int, ...]) -> int | None:
        values = [self._constants.get(slot) for slot in arguments]
        if operation == "where" and values[0] is not None:
            return arguments[1] if values[0] else arguments[2]
        if operation == "mul":
            for value, other in ((values[0], arguments[1]), (values[1], arguments[0])):
                if value == 1.0:
                    return other
        if operation in ("add", "sub") and values[1] == 0.0:
            return arguments[0]
        if operation == "add" and values[0] == 0.0:
            return arguments[1]
        if operation == "div" and values[1] == 1.0:
            return arguments[0]
        if any(value is None for value in values) or operation.startswith(CALL):
            return None
        with np.errstate(all="ignore"):
            value = _numpy_function(operation)(*values)
        return self.constant(bool(value) if isinstance(value, bool | np.bool_) else float(value))

    # --- trees --------------------------------------------------------------------------------------------------

    def expression(self, expression: Expr) -> int:
        slot = self._memo.get(expression)
        if slot is None:
            slot = self._memo[expression] = self._lower(expression)
        return slot

    def _lower(self, expression: Expr) -> int:
        if isinstance(expression, Symbol):
            return self._symbol(expression.name)
        if isinstance(expression, Number | Pi):
            return self.constant(number(expression))
        if isinstance(expression, Sum):
            return stable.lower_sum(self, expression)
        if isinstance(expression, Product | Power):
            return stable.lower_product(self, expression)
        if isinstance(expression, Function):
            if expression.name == "log":
                return logarithms.lower_log(self, expression.args[0])
            return self.emit(expression.name, *(self.expression(argument) for argument in expression.args))
        if isinstance(expression, Extremum):
            return self._extremum(expression)
        if isinstance(expression, Step):
            return self._step(expression)
        if isinstance(expression, Where):
            return self._cases(expression)
        if isinstance(expression, Condition):
            return self._condition(expression)
        assert isinstance(expression, Named)
        return self._named(expression)

    def _symbol(self, name: str) -> int:
        if name in self._renamed:
            return self._renamed[name]
        if name not in self._inputs:
            self._inputs[name] = self._new_slot()
        return self._inputs[name]

    def _extremum(self, expression: Extremum) -> int:
        slots = [self.expression(argument) for argument in expression.args]
        result = slots[0]
        for slot in slots[1:]:
            result = self.emit(_EXTREMA[expression.name], result, slot)
        return result

    def _step(self, expression: Step) -> int:
        argument, at_zero = self.expression(expression.args[0]), expression.args[1]
        if at_zero == HALF:
            return self.emit("step", argument)
        zero = self.constant(0.0)
        tie = self.emit("where", self.emit("eq", argument, zero), self.expression(at_zero), zero)
        return self.emit("where", self.emit("gt", argument, zero), self.constant(1.0), tie)

    def _condition(self, expression: Condition) -> int:
        if not expression.args:
            return self.constant(expression.name == "true")
        slots = [self.expression(argument) for argument in expression.args]
        if expression.name == "not":
            return self.emit("not", slots[0])
        result = slots[0]
        for slot in slots[1:]:
            result = self.emit(expression.name, result, slot)
        return result

    def _named(self, expression: Named) -> int:
        slots = [self.expression(argument) for argument in expression.args]
        entry = SPECIAL_FUNCTIONS.get(expression.name)
        if entry is None:
            return self.emit(CALL + expression.name, *slots)
        if len(slots) != entry.arity:
            raise TapeError(f"{expression.name} takes {entry.arity} arguments, not {len(slots)}")
        return self.emit(SPECIAL + expression.name, *slots)

    def _cases(self, expression: Where) -> int:
        masks: list[int] = []
        untaken: int | None = None
        for _, condition in expression.cases:
            here = self.expression(condition)
            masks.append(here if untaken is None else self.emit("and", here, untaken))
            outside = self.emit("not", here)
            untaken = outside if untaken is None else self.emit("and", untaken, outside)
        result = self.constant(float("nan"))
        for (branch, condition), mask in zip(reversed(expression.cases), reversed(masks), strict=True):
            value = self._guarded_branch(branch, mask)
            # later branches are the fallback, so the plain condition selects
            result = self.emit("where", self.expression(condition), value, result)
        return result

    def _guarded_branch(self, branch: Expr, mask: int) -> int:
        """The branch computed from inputs that are replaced by a harmless constant where the branch is not taken.

        Without it a branch such as exp(x) - 1 for x <= 0 sends inf * 0 = NaN into the gradient at x = 1000.
        """
        if _is_polynomial(branch):
            return self.expression(branch)
        fill = _harmless_point(branch)
        if fill is None:
            return self.expression(branch)
        outer = (self._memo, self._renamed)
        self._memo, self._renamed = {}, dict(self._renamed)
        guarded = {
            name: self.emit("guard", mask, self._symbol(name), self.constant(fill)) for name in sorted(branch.symbols)
        }
        self._renamed.update(guarded)
        slot = self.expression(branch)
        self._memo, self._renamed = outer
        return slot

    def finish(self, outputs: list[int]) -> Program:
        """The program of the given outputs, without what none of them needs."""
        return allocate(self._inputs, self._constants, self._steps, outputs)


def _is_polynomial(branch: Expr) -> bool:
    return all(polynomial(branch, name) is not None for name in branch.symbols)


def _harmless_point(branch: Expr) -> float | None:
    """A value for every symbol of the branch at which the branch and its neighbourhood are finite."""
    lowering = Lowering()
    program = lowering.finish([lowering.expression(branch)])
    if program.operators:
        return None
    for candidate in _FILL_CANDIDATES:
        around = np.array([candidate - 1e-3, candidate, candidate + 1e-3])
        registers = list(program.initial)
        for _, index in program.inputs:
            registers[index] = around
        with np.errstate(all="ignore"):
            for operation, sources, target in program.steps:
                registers[target] = _numpy_function(operation)(*(registers[source] for source in sources))
        value = np.asarray(registers[program.outputs[0]], dtype=float)
        if np.all(np.isfinite(value)) and np.ptp(value) < 1e3:
            return candidate
    return None


def _numpy_function(operation: str) -> Any:
    if operation.startswith(SPECIAL):
        return SPECIAL_FUNCTIONS[operation.removeprefix(SPECIAL)].numpy
    return NUMPY_OPERATIONS[operation]

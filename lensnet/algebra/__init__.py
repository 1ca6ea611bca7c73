"""Algebra: formulas become numbers.

tape.py         sympy expression -> compiled program for numpy and torch (lowering.py, stable.py, the two back ends)
derivative.py   derivatives almost everywhere
special.py      special functions that formulas call by name
kinks.py        where a function of one variable jumps or bends
pointwise.py    one activation function: formula, kinks, flags, callables
gaussian.py     its expectations under a Gaussian (closed forms, quadrature, tables), with error estimates
fixed_points.py fixed points of a map, and symbolic solving
worker.py       heavy symbolic algebra in a killable process

Nothing is imported here: `lensnet lint` must stay free of scipy and torch.
"""

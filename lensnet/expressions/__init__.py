"""Formulas as trees: built, simplified a little, differentiated, cut into polynomials.

tree.py        numbers, symbols, sums, products, powers; arithmetic.py: what they simplify to as they are built
functions.py   functions, conditions and cases; their values at special places, what is never negative
traverse.py    substitution, traversal, expansion, polynomials in one symbol
derivative.py  derivatives almost everywhere
symbolic.py    to sympy and back, for proofs, limits and pages (the one file here that imports it)

A prediction builds every formula here: sympy takes longer to load than a thousand layers to predict, so only what
really proves or shows something asks for it.
"""

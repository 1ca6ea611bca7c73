"""Algebra: formulas become numbers.

Formulas
    tape.py              an expression compiled for numpy and torch: `compile_tape`
    lowering.py          expression -> list of operations; stable.py, logarithms.py, exponentials.py: forms that keep
                         their digits
    program.py           the list of operations; numpy_backend.py, torch_backend.py: what each operation does
    derivative.py        derivatives almost everywhere, special functions included
    special.py           special functions that formulas call by name; mixing/: those of attention and gates
    normal.py            erf and the normal distribution, without waiting for scipy for a few numbers

Functions of one variable under a Gaussian
    pointwise.py         an activation: formula, kinks, flags, callables; chains, products, sums of two
    kinks.py, pieces.py  where it bends or jumps; the polynomials between
    gaussian.py          `expect`: its averages, each with an error estimate, and `jump_density`
    closed_forms.py      where there is one (piecewise_moments.py: relu, clip, ...)
    quadrature.py        otherwise Gauss-Legendre panels (mesh.py finds them)
    table.py             interpolation, for fields of very many different inputs
    moment_map.py        E f**2 and E f'**2 of a centred input as splines in its variance: a million at once
    quintic.py           the splines, of one and of two variables

Functions of two correlated Gaussians
    dual.py              an activation's kernel E f(u) f(v), the same of its slope, two different functions that meet
    bivariate/           closed forms (arc-cosine, erf, GELU, ELU, sines, at any mean); Mehler series with a bound

    parallel.py          elementwise work on very many numbers, on all cores

Many neurons at once
    random_matrix/       eigenvalues and log-determinants of sample matrices, singular values of Jacobians

Equations
    fixed_points.py      fixed points of a moment map; an equation solved for a symbol
    worker.py            symbolic algebra in a process that can be killed (transport.py: its messages)

Nothing is imported here: `lensnet lint` must stay free of scipy and torch.
"""

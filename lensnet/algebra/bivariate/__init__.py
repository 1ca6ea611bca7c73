"""Averages over two correlated normal variables: what a dual activation is made of.

gates.py        a function as a sum of x**n * exp(a*x**2 + b*x) * gate, a gate being a step, Phi, sign or erf
law.py          the joint law of two inputs: (co)variances, means, the determinant without cancellation
moments.py      E[u**i v**j gate(u) gate(v)] by Stein's lemma; every term carries its rounding error
normal_cdf.py   the base of that recursion: the bivariate normal distribution function
homogeneous.py  arc-cosine kernels: functions that are a power on either side of 0
coefficients.py of Hermite polynomials, by quadrature; of very many variances, interpolated
hermite.py      everything else: Mehler series, with the bound on what was cut off
nested.py       near correlation 1, where that series is slow: quadrature split at the kinks
"""

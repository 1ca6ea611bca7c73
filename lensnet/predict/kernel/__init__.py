"""The kernel level: covariances between samples instead of one typical sample.

source.py       the covariance of the input
environment.py  what the kernel formulas of a component may name
operators.py    what a geometry does to pairs of positions
pointwise.py    pointwise components: Gaussian expectations of two correlated values
cross.py, cross_back.py   covariances between different edges of the graph
forward.py, backward.py, propagate.py   one component, and the whole network, in both directions
banded.py, band_operators.py, input_pairs.py   of large images the pairs that later components ask for
maxima.py, max_pooling.py, responses.py, normalisation.py, attention.py   operators that need a whole state
stationary.py, displacements.py   the same by displacement, for large images
tangent.py      the neural tangent kernel
maps.py         correlation maps of a block and their fixed points
phase.py, phase_correlation.py   phase diagrams over gain and bias_std: fixed points, depth scales, the edge of chaos
engine.py       rows of a report
"""

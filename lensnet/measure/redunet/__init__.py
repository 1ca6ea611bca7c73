"""ReduNet: a network whose layers are steps of gradient ascent on the rate reduction of labelled data.

Everything works on *coefficients*: complex or real tensors (F, m, c), m examples of c channels at each of F
frequencies. Vectors are the case F = 1; a shift-invariant layer works on the discrete Fourier transform of a signal,
where circular shifts are diagonal (`coefficients`). Conventions: Chan et al. 2022, ReduNet: a white-box deep network
from the principle of maximizing rate reduction, sections 3 and 4; eps2 is the distortion squared.
"""

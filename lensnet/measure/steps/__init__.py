"""Steps of an algorithm, measured: objectives as torch functions, one tensor operation for every step.

`problem` says what an objective offers, `objectives/` holds them; `operations` holds the steps, `estimators` the
quantities of a state, and `ensemble` runs a stack of steps for every seed.
"""

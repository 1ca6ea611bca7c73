"""Derivations for reading: where an effect comes from, step by step.

api.py                 `derive(name, quantity)`: what is asked for, and who answers
pointwise.py           a pointwise component: from its function to its effects (effects_of_function.py, gain.py)
normal_average.py      averages over a normal variable in symbols, by three rules (normal_form.py, pieces.py)
declared.py            a component whose file declares its effects
network.py             parts of a network and repeated blocks
stack.py               moments of a short stack in symbols, forward (stack_cross.py) and backward (stack_backward.py)
stability.py           fixed points of a repeated block, by the engine itself
result.py              the result as data: steps, formulas, numbers; page.py, notation.py and saved.py show it
"""

"""The spectrum level: eigenvalues of sample matrices at finite width.

engine.py    rows from the input batch (through) and from measured Gram matrices (local)
layers.py    the neurons at every output: their population, given that every layer before was itself a sample
gaussian.py  a pointwise function of Gaussian samples: its population covariance, slopes, draws
rows.py      from neurons to rank, effective rank, coding rate
"""

"""Random matrices: what the eigenvalues of a sample matrix are when the number of neurons is finite.

marchenko_pastur    independent entries: density, edges, moments, log-determinant, stable rank, in closed form
neurons             a population of neurons: its covariance between samples, and how much energy each neuron has
sample_spectrum     eigenvalues of (1/n) sum z z^T over n neurons of a population (deformed Marchenko-Pastur)
log_determinant     E logdet(I + s/n sum z z^T), with the terms of order one that Marchenko-Pastur leaves out
jacobian            a network's Jacobian: moments of its singular values at finite width
singular_values     their whole law at large width, by S-transforms
"""

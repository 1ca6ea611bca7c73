"""Every component against Monte Carlo truth: the trials its YAML file declares, and a grid of input means."""

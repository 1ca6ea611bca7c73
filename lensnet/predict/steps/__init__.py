"""Steps of an algorithm: the iterate on an objective, told mode by mode, passed from step to step."""

"""From numbers to a prediction: estimators, interpolation, what is left out. NumPy and SciPy only, no JAX."""

import sketchlearn.prediction.estimators  # noqa: F401 (registers them)

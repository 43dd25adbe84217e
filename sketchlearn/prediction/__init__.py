"""From numbers to a prediction: estimators, interpolation, what is left out. NumPy and SciPy only, no JAX."""

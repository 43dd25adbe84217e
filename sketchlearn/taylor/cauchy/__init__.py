"""Cauchy's way to Taylor coefficients: the same program on circles around the point."""

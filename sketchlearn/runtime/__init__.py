"""JAX and this machine as they are: versions of JAX, precision, seeds, paths, workers. Every room stands on it."""

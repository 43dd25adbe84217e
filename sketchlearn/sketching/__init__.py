"""θ's jets, made and kept: in memory or in a store."""

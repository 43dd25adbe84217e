"""w -> θ: what a training program is, and the ones that the package makes."""

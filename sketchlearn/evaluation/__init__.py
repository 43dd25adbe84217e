"""How right each method is, and what it costs."""

"""x: what may be deleted, a linear map from coordinates to the examples, and how users write it."""

"""A sketch on disk."""

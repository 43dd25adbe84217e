"""Many runs at once: blocks, memory, meshes, timing, progress."""

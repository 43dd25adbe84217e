"""Before and about a run: check, plan, pilot, stability."""

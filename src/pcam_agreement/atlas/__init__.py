"""A page to look at a run, patch by patch: what it says, and how it lies on disk."""

"""Whether this installation works: every part is tried, for a bug report."""

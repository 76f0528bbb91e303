"""Whether this installation works: every part tried, and told for a bug report."""

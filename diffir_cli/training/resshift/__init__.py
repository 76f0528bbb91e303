"""The training of ResShift."""

"""What a restoration costs: Mult-Adds, time and memory, as values; nothing here prints."""

"""Many images: what will be done, what has been done, and the doing."""

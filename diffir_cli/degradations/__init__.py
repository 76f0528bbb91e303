"""What is done to a sharp photo to make the degraded one."""

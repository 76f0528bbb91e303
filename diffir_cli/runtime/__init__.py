"""One image through one model, as fast and as small as the machine allows."""

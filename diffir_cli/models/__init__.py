"""Families of networks, each in a folder of its own, and what the rest knows of them."""

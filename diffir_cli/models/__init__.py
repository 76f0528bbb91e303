"""Families of networks, each in a folder of its own."""

"""Exact execution of the networks in strips of rows, with little more than one feature map."""

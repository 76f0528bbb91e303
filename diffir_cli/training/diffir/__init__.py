"""The three training stages of DiffIR."""

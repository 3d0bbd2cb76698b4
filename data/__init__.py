"""Data sets: their sources, and their stores.

A data set is read from its source (`omniglot`, `glyphs`, `folder`) once, resized, and written to a Zarr store
(`store`); training and tests read only the store (`images`), split by classes (`splits`).
"""

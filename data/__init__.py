"""Where images come from, and how they are stored.

A data set is read from its source (`omniglot`, `glyphs`, `folder`) once, resized, and written to a Zarr store
(`store`); what trains and tests reads the store alone (`images`), split by classes (`splits`).
"""

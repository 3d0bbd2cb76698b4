"""The face in Python: what `import fanfold` offers."""

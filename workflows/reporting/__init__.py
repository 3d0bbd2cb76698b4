"""Reports of runs: a file for each kind of picture, from the numbers to the drawing."""

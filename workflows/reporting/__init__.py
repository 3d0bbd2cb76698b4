"""What a run's report shows: each kind of picture in a file of its own, from the numbers to the drawing."""

"""Sources of data sets: Omniglot's archives, letters drawn from fonts, your own folders."""

"""Where pictures come from: Omniglot's archives, letters drawn from fonts, folders of one's own."""

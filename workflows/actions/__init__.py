"""What the verbs do, as functions: a command and its counterpart in Python share them."""

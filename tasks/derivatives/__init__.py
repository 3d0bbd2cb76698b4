"""Networks of known layers with first and second derivatives written out, for many tasks at once."""

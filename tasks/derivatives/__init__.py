"""Networks of known layers, with their first and second derivatives written out, for several tasks or for one."""

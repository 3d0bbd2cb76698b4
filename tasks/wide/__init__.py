"""Several tasks computed side by side, with derivatives written out: what a GPU and a CPU share of that."""

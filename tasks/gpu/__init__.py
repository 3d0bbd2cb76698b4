"""Tasks computed side by side, as a GPU wants them."""

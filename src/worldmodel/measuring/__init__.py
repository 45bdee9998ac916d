"""What predictions, dreams and the exported bundle are worth."""

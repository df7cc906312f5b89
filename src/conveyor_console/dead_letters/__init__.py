"""Tasks that used up their attempts, were rejected or cancelled: look, requeue, discard."""

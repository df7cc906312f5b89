"""Housekeeping that one process does for all: promotion, pruning, the rescue of lost tasks."""

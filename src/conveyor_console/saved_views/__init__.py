"""Filters that users keep for themselves."""

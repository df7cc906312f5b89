"""Strikes over HTTP."""

"""Alerts: rules on what the queue measures, and who is told."""

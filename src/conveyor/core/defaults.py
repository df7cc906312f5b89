"""What holds when nobody says otherwise: of definitions, enqueues, nodes, stored tasks."""

QUEUE = "default"
PRIORITY = 5
MAX_ATTEMPTS = 5
RETRY_BASE, RETRY_CAP = 2.0, 600.0
"""Seconds: the first backoff, and the longest."""
RESULT_TTL = 86_400.0
"""Seconds that a result is kept."""

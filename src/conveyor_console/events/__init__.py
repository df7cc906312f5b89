"""Live events over HTTP: one stream (SSE) per reader."""

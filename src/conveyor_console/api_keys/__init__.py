"""API keys over HTTP: everybody's own."""

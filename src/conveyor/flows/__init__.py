"""Workflows: building a graph, running it, and seeing it through crashes."""

"""What coverage.py loads."""

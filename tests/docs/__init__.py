"""The documentation is part of the product: its code runs, its references are complete."""

"""What was done and what was refused, by whom: written with the change, then sealed."""

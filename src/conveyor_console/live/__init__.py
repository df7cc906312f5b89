"""What happens, as it happens: one reader of the queue's events per process, and its readers."""

"""One action on all tasks that fit a filter: planned, looked at, then run at a pace."""

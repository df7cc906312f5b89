"""What happened: finished tasks of any broker, in tables that can be searched."""

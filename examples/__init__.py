"""Programs that show Conveyor at work."""

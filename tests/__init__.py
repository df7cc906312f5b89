"""Everything that proves Conveyor right."""

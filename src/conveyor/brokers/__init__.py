"""Stores of tasks, all behind the one seam in `conveyor.brokers.base`."""

"""Running tasks: the supervisor and its children, the engine, the executors."""

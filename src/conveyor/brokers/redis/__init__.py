"""The broker on Redis and Valkey: one script per batch, one cluster slot per queue.

Every change of a task is one Lua script (`lua/`), so it happens whole or not at all. A task's
record is immutable; its state is derived from where its id sits: in a list of its priority
(queued), in `due` (scheduled), in `i` (running), in a bucket of successes, or among the dead
letters.
"""

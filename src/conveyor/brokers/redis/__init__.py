"""The broker on Redis and Valkey: one script per batch, one cluster slot per queue.

Every change of a task is one Lua script (`lua/`), so it happens whole or not at all. A task's
record is immutable; its state is derived from where its id sits: in a list of its priority or in
its lane (queued), in `due` (scheduled), in `i` (running), in a bucket of successes, or among the
dead letters. What lies under which key is told at the top of the snippets (`lua/_*.lua`): `_wait`
and `_lanes` for waiting tasks, `_gates` for limits, `_unique`, `_lease`, `_finish`, `_bucket`,
`_ring` and `_tell`; documents and tallies in `document.lua` and `tally.lua`.

Keys of a queue carry the hash tag `{namespace:queue}`; those of gates `{namespace}`, so that all
queues share them, except in a cluster, where a script may touch one slot only.
"""

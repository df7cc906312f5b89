"""The console and the queue as things that run: probes, facts, the doctor."""

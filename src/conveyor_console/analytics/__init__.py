"""What the sums say: throughput, success, waits and runs, failures, peak hours."""

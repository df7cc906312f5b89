"""The pure heart of the queue: values and decisions. No I/O, no clock, no dice, no logging."""

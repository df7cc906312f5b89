"""A process that says a lot and is gone at once."""

import os
import sys

from conveyor.worker.frames import write_frame
from conveyor.worker.spawn import open_pipes

_, write = open_pipes(sys.argv[1:])
for _ in range(100):
    write_frame(write, "x" * 600)
os._exit(5)

"""Every test process: one thread, as tiny tensors gain nothing from more and processes side by side lose much;
and Ctrl-C as usual, which a shell's background job, and all that it starts, would ignore.
"""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")
signal.signal(signal.SIGINT, signal.default_int_handler)

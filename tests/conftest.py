"""Every test process has one thread, as tiny tensors gain nothing from more, and takes Ctrl-C as usual, which
a background job of a shell, and all that it starts, would ignore.
"""

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")
signal.signal(signal.SIGINT, signal.default_int_handler)

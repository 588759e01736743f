"""Imported last by the process that workers are forked from.

It ends without its exit hooks, since it outlives its command by a moment: Matplotlib's hook, for one, would look for a
temporary folder that is gone by then. And what it has imported, workers share and never search for garbage.
"""

import atexit
import gc
import os

atexit.register(os._exit, 0)  # Hooks run last to first.
gc.freeze()

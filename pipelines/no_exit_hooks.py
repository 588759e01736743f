"""Imported last by the process that workers are forked from: it ends without its exit hooks.

It outlives its command by a moment. Matplotlib's hook, for one, would look for a temporary folder that is gone by then.
"""

import atexit
import os

atexit.register(os._exit, 0)  # Hooks run last to first.

"""What happens while Python still looks for the module of a command: it begins, and its workers' parent is started."""

import re
import sys

from lab.execute.start import fork_early as fork_early
from pipelines import terminal

if sys.argv[0] == "-m":  # A command begins: `python -m recipes` or `python -m recipes.NAME`.
    terminal.begin()
# While Python looks for the module of `python -m recipes.NAME`, before that imports Keras, argv begins with "-m".
if sys.argv[0] == "-m" and any(re.fullmatch(r"recipes\.\w+", argument) for argument in sys.orig_argv):
    fork_early()

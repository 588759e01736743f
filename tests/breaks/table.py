"""The table of breaks, joined from a module for each area of the code."""

from tests.breaks import cli, core, evidence, execute, pipelines, recipes, report, search, tensorboard, top, variants
from tests.breaks.row import Break

AREAS = (recipes, pipelines, core, execute, evidence, report, tensorboard, search, cli, top, variants)
BREAKS: list[Break] = [row for area in AREAS for row in area.ROWS]

"""Distillations of tiny recipes, by the command or in this process."""
from pathlib import Path
import subprocess
import sys
from typing import Any

from support.tiny_data import ROOT, write_recipe
from training.distill import distill, make_fabric, parse

PROGRAM = 'training/distill.py'


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run distill.py, as a user does."""
    return subprocess.run([sys.executable, PROGRAM, *map(str, arguments)], capture_output=True,
                          text=True, timeout=300, cwd=ROOT)


def here(folder: Path, *arguments: object, **fields: Any) -> dict[str, Any]:
    """Write a recipe, run it in this process, and return its results."""
    recipe = parse(['--config', str(write_recipe(folder, **fields)), *map(str, arguments)])
    return distill(recipe, make_fabric(recipe))


def named(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the rows of the table by their names."""
    return {row['images']: row for row in result['table']}


def again(folder: Path) -> dict[str, Any]:
    """Run the recipe that lies in a folder."""
    recipe = parse(['--config', str(folder / 'recipe.yaml')])
    return distill(recipe, make_fabric(recipe))

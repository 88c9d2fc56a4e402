"""Recipes in the paper's notation, and the losses at work on two networks."""

from cwd.recipes.distiller import Distiller
from cwd.recipes.parse import Term, parse_recipe

__all__ = ["Distiller", "Term", "parse_recipe"]

"""Recipes in the paper's notation, losses of one's own, and both at work on two networks."""

from cwd.recipes.distiller import Distiller
from cwd.recipes.parse import Term, parse_recipe
from cwd.recipes.registered import load_losses, loss

__all__ = ["Distiller", "Term", "load_losses", "loss", "parse_recipe"]

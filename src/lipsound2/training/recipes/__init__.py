"""Recipes: settings of a run, from which its task is assembled."""

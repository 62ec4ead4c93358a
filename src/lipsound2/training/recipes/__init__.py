"""Recipes: settings of a run, and how they become a task."""

"""Recipes: a task, a model, data and a method, joined."""

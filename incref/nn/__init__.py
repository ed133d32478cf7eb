"""Modules that a model is written with, so that a configuration can speak of what they do."""

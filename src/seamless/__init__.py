"""Seamless: one shared, parameterised pipeline for all of a small team's microservices."""

__version__ = "0.1.0"

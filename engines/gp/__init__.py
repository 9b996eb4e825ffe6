"""Bayesian optimisation with a Gaussian process."""

from tunewright.engines.gp.engine import GP

__all__ = ["GP"]

"""Reading training curves: what shape one has, since when, and where it will end. No model of the space is needed."""

from tunewright.engines.curves.reading import read
from tunewright.engines.curves.shapes import FAULTS, Forecast, Reading, Shape

__all__ = ["FAULTS", "Forecast", "Reading", "Shape", "read"]

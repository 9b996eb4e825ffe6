"""The one test class that an engine's package needs."""

from tunewright_halton import Halton

from tunewright.engines.testing import EngineContract


class TestHalton(EngineContract):
    engine = Halton

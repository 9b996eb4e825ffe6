"""The one test class that an engine's package needs."""

from tunewright.engines.testing import EngineContract
from tunewright_halton import Halton


class TestHalton(EngineContract):
    engine = Halton

"""A package that claims a name which a built-in engine already has."""


class Engine:
    pass

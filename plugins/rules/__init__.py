"""The built-in advisor that needs no model and no key: published defaults, settings and rules of thumb."""

from tunewright.plugins.rules.advisor import RulesAdvisor

__all__ = ["RulesAdvisor"]

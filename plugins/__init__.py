"""Plugins: everything a study can be built from. Import what you need from its module; this imports nothing."""

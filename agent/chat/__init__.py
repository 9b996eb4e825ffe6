"""Tuning by talking: a small grammar that needs no model, and the session that any talker shares."""

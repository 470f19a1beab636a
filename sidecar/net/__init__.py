"""Outbound IO: the upstream pool and what is held open towards others."""

"""Inbound IO: client connections, the request pipeline and the admin listener."""

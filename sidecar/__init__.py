"""A reverse-proxy sidecar that owns the session, so that frontends need not."""

__version__ = "0.1.0"

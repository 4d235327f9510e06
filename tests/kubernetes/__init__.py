"""Kubernetes for development and tests: a private one of this machine's own, and a stand-in for its API server."""

"""A policy becomes what runs: `sidecar.policy.Policy` → `sidecar.runtime.Runtime`."""

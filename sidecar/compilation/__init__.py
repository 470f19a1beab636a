"""A configuration becomes what requests are served by: `Config` → `sidecar.policy.Policy`."""

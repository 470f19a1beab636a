"""What people on call are told of the last minutes: bounded, in memory, without secrets."""

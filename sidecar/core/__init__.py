"""Pure policy: no await, no aiohttp, no clock, no environment, no logging."""

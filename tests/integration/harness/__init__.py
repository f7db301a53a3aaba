"""What the integration tests stand on: a RESP client, redis-server processes and clusters, the
proxy under test, and a scripted fake cluster. Python 3 standard library only."""

"""The pure room: bytes and tables in, tables out. No clock, network, disk, environment or orchestrator (see tests/test_house.py)."""

"""Processes, threads, leases and signals: the room that runs the engine on lanes."""

"""Calls functions and decides what follows from the outcome; no threads or sleeps of its own."""

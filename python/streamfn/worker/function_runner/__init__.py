"""Processes that call functions by request; docs/front.md says what they exchange with whom."""

"""Demonstrators: scripted experts and a person at the keyboard. Pure."""

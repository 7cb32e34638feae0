"""Policies and their critics, from transitions."""

"""Spaces, which define observations and actions, and the frames in which dynamics are learned."""

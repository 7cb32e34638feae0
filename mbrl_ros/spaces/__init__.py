"""What an agent sees and how it moves, and the frames in which its dynamics are learned."""

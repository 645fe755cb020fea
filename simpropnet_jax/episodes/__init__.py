"""Which images make an episode, and how they reach the device."""

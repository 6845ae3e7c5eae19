"""What the end-to-end tests stand on: a real agent, real repositories, and a check of the history it wrote."""

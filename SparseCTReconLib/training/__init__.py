"""Training of what is learnt before any scan: the heads of neural fields."""

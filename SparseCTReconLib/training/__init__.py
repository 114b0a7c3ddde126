"""Training of what is learnt before any scan: the heads of neural fields, and the network that restores ADMM-TV's volumes."""

"""How good a reconstruction is: figures with the names of their conventions, and pictures."""

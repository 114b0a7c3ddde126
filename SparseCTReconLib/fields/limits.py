"""What a field may take of a machine. No torch: who asks for the memory of a method must not need it."""

KEPT_BYTES = 1 << 30
"""Memory for what autograd keeps between `forward` and `gradient`; a larger batch is computed anew there, in pieces of this size."""

"""The commands of `sparsectrecon`, one file each."""

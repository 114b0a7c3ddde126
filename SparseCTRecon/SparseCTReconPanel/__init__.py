"""What stands behind the SparseCTRecon panel: parameters, jobs and scene nodes. The reconstruction itself is in SparseCTReconLib."""

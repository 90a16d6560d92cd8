"""Where runs are tracked beside the results store."""

"""What the experiments of the lab are asked for."""

"""One model on this machine: loaded, taken apart by structure, and shared by turns."""

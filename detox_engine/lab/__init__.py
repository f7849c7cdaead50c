"""Experiments on the paper's claims, all at one cost: methods side by side, fewer pairs, wrong labels."""

"""What every test stands on: one thread a process, since the tests run side by side and their models are tiny."""

import os

# Before torch is imported: tiny products on many threads spend their time waiting for one another.
os.environ["OMP_NUM_THREADS"] = "1"

import torch  # noqa: E402

torch.set_num_threads(1)

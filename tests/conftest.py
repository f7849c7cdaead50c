"""What every test stands on: one thread a process, since the tests run side by side and their models are tiny."""

import os

# Before torch is imported: tiny products on many threads spend their time waiting for one
# another. A run that asks for another number has it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch  # noqa: E402

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

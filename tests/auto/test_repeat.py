"""What is made again is held against what was taken away: the directions, and what reads them."""

import torch

from detox_engine.auto.repeat import compare_subspaces
from detox_engine.edit.low_rank import LowRankEdit


def test_an_edit_that_reads_otherwise_is_another():
    basis, reads = torch.eye(6)[:1], torch.tensor([[1.0, 0.5, 0, 0, 0, 0]])
    edit = LowRankEdit({1: basis}, reads={1: reads})
    again = LowRankEdit({1: basis}, reads={1: reads + 1e-5})
    other = LowRankEdit({1: basis}, reads={1: reads.flip(1) + basis})
    assert compare_subspaces(again, edit).holds
    assert not compare_subspaces(other, edit).holds
    assert not compare_subspaces(LowRankEdit({1: basis}), edit).holds

"""Overview: what is a toxic subspace, and what does removing it do?"""

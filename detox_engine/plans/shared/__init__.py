"""Work that processes and machines share: workers of a cluster, trials of a search."""

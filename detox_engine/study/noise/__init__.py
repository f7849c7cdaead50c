"""Which directions are more than noise: the threshold of every fit, and the parallel analysis that is asked for."""

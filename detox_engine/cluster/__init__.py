"""Work shared among processes and machines by Ray: workers that each have the model, and who hands out to them."""

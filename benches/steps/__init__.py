"""What `benches/train.py` times: rows, the model, and a step of each column."""

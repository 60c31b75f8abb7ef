"""What `qrft sample` makes, and what `qrft grade`, `curate` and `evaluate` do with people's samples, batch by batch."""

"""What `qrft grade`, `curate` and `evaluate` do with people's samples: one pass over the files, batch by batch."""

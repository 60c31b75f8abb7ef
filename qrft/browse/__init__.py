"""`qrft browse`: pages of samples for a browser on this machine."""

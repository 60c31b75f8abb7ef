"""Samples from any system: JSONL and Parquet files of several spellings, read as one stream of batches."""

from qrft.data.samples.batches import Batch, Unit, ahead, files_of, units
from qrft.data.samples.numbering import Numbering
from qrft.data.samples.rows import Faults

__all__ = ["Batch", "Faults", "Numbering", "Unit", "ahead", "files_of", "units"]

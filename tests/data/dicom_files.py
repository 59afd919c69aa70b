"""DICOM files for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid


def dicom(path: Path, pixels: np.ndarray, bits: int, **fields: Any) -> Path:
    """Write an image (rows, columns), or frames of one, as whole numbers of 16 bits of which `bits` are used, with further fields."""
    stored = pydicom.Dataset()
    stored.file_meta = FileMetaDataset()
    stored.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    stored.file_meta.MediaStorageSOPClassUID = stored.SOPClassUID = SecondaryCaptureImageStorage
    stored.file_meta.MediaStorageSOPInstanceUID = stored.SOPInstanceUID = generate_uid()
    stored.Rows, stored.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        stored.NumberOfFrames = len(pixels)
    stored.SamplesPerPixel, stored.PhotometricInterpretation = 1, "MONOCHROME2"
    stored.BitsAllocated, stored.BitsStored, stored.HighBit, stored.PixelRepresentation = 16, bits, bits - 1, 0
    for name, value in fields.items():
        setattr(stored, name, value)
    stored.PixelData = pixels.astype("<u2").tobytes()
    stored.save_as(path, enforce_file_format=True)
    return path

"""What users bring: images, labels and masks as four splits that share nothing, checked before any work."""

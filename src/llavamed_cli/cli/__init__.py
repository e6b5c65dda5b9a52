"""The doors: one file a command. They parse and print, and know no tensors."""

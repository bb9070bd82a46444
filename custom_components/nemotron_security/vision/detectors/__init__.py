"""One plug-in a file; `yolo.py` decodes the output of all of them."""

"""Pictures in, tracks out: the part of the product that knows nothing of Home Assistant.

It runs in a process of its own (see `worker.py`), or alone on a file:
`python custom_components/nemotron_security/vision VIDEO`. Nothing here may import Home Assistant or anything of the
integration above this folder.
"""

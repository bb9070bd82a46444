"""Which detector looks: what was chosen, what can run here, and where its model and its packages come from.

The worker's side, which runs it, is `vision/detectors`. Nothing here loads a model, or imports Home Assistant.
"""

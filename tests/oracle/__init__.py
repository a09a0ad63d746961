"""The released networks once more, as plain functions of a state dict under their own names.

Written from a description of the released networks, without this package's code, so that both have
to be wrong in the same way for a mistake to stay unseen. Maps are (B, H, W, C) in here.
"""

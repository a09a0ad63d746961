"""Tests of the package; their folders mirror its own."""

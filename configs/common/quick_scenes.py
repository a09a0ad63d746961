"""Rendered scenes at the resolution of the small networks."""

from .data.detection import set_image_size
from .data.scenes import dataloader
from .models.quick_piip import IMAGE_SIZE

set_image_size(dataloader, long_side=IMAGE_SIZE, short_side=IMAGE_SIZE)

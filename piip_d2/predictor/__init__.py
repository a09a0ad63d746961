"""From a config and a checkpoint to predictions for single images."""

from piip_d2.predictor.pictures import ChannelOrder, ImageLike, to_rgb
from piip_d2.predictor.predictor import Predictor, choose_device

__all__ = ["ChannelOrder", "ImageLike", "Predictor", "choose_device", "to_rgb"]

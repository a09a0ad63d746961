"""Keys for Detectron2's yacs configuration system."""

from __future__ import annotations

from detectron2.config import CfgNode


def add_piip_config(cfg: CfgNode) -> None:
    """Adds ``MODEL.PIIP`` to a configuration made by ``detectron2.config.get_cfg``.

    With ``MODEL.BACKBONE.NAME`` set to ``"PIIP"`` or ``"PIIPFPN"``, ``build_backbone(cfg)`` then
    builds the network. Lists are largest resolution first; an empty list stands for the default
    of :func:`piip_d2.modeling.backbone.build_network_parts`. The defaults are PIIP-TSB
    1120/896/448.
    """
    piip = CfgNode()
    # Names in piip_d2.modeling.backbone.BRANCH_PRESETS.
    piip.BRANCHES = ["vit_tiny", "vit_small", "vit_base"]
    piip.IMG_SIZES = [1120, 896, 448]
    # 0 stands for global attention, and for a ConvNeXt, which knows no windows.
    piip.WINDOW_SIZES = [14, 14, 14]
    piip.DROP_PATH_RATES = [0.05, 0.05, 0.15]
    piip.NUM_INTERACTIONS = 12
    piip.INTERACTION_BLOCK_INDEXES = []
    piip.DIRECTIONS = "adjacent"
    piip.ATTENTION = "deformable"
    piip.NUM_HEADS = 16
    piip.NUM_POINTS = 4
    piip.VALUE_RATIO = 0.5
    piip.WITH_PROJECTION = True
    piip.WITH_NORM = True
    piip.WITH_FFN = True
    piip.FFN_RATIO = 0.25
    piip.INTERACTION_DROP_PATH_RATE = 0.4
    piip.MERGE = "conv"
    piip.MERGE_DIM = 0  # 0 takes the channels of the lowest resolution
    piip.MERGED_BRANCHES = []
    piip.OUT_INTERACTIONS = []
    piip.FEATURE_NORM = "group"
    piip.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    piip.SIZE_DIVISIBILITY = 224
    piip.SQUARE_SIZE = 0  # 0 pads to no square
    piip.USE_ACT_CHECKPOINT = False
    cfg.MODEL.PIIP = piip


def add_dino_config(cfg: CfgNode) -> None:
    """Adds ``MODEL.DINO`` to a configuration made by ``detectron2.config.get_cfg``.

    With ``MODEL.META_ARCHITECTURE`` set to ``"DINO"``, ``build_model(cfg)`` then builds the
    detector on the backbone that the configuration names. ``INPUT.FORMAT`` may be either order of
    colours, with ``MODEL.PIXEL_MEAN`` and ``MODEL.PIXEL_STD`` in the same; published weights are
    for ``"RGB"``, which is not Detectron2's default.
    """
    dino = CfgNode()
    dino.NUM_CLASSES = 80
    # Maps of the backbone, finest first; levels beyond them are made from the coarsest.
    dino.IN_FEATURES = ["res3", "res4", "res5"]
    dino.NUM_LEVELS = 4
    # True for weights of DINO's authors or of detrex.
    dino.NECK_BIAS = False
    dino.EMBED_DIM = 256
    dino.NUM_HEADS = 8
    dino.NUM_POINTS = 4
    dino.FEEDFORWARD_DIM = 2048
    dino.NUM_ENCODER_LAYERS = 6
    dino.NUM_DECODER_LAYERS = 6
    dino.NUM_QUERIES = 900
    dino.NUM_DENOISING_QUERIES = 100  # 0 trains without
    dino.LABEL_NOISE = 0.5
    dino.BOX_NOISE = 1.0
    # Of the losses; the costs of the assignment keep theirs.
    dino.CLASS_WEIGHT = 1.0
    dino.BBOX_WEIGHT = 5.0
    dino.GIOU_WEIGHT = 2.0
    dino.TEST_SCORE_THRESH = 0.0
    # 10000 and -0.5 for weights of detrex.
    dino.POSITION_TEMPERATURE = 20.0
    dino.POSITION_OFFSET = 0.0
    dino.USE_ENCODER_ACT_CHECKPOINT = False
    dino.USE_DECODER_ACT_CHECKPOINT = False
    cfg.MODEL.DINO = dino


def add_cascade_config(cfg: CfgNode) -> None:
    """Adds keys of ``ExtendedCascadeROIHeads`` to ``MODEL.ROI_BOX_CASCADE_HEAD``.

    With ``MODEL.ROI_HEADS.NAME`` set to ``"ExtendedCascadeROIHeads"``, ``build_model(cfg)`` then
    builds these heads. The defaults are what Detectron2 does.
    """
    cascade = cfg.MODEL.ROI_BOX_CASCADE_HEAD
    cascade.SCORE_AVERAGE = "probs"
    cascade.STAGE_LOSS_WEIGHTS = []  # an empty list stands for 1 in every stage
    cascade.SCALE_GRADIENTS = True
    cascade.REMOVE_GROUND_TRUTH = False
    cascade.RESAMPLE_PROPOSALS = False
    cascade.NUM_MASK_HEADS = 1

"""The section ``data``: other data than an experiment's own, from the command line or a config.

``data.train=train.json data.val=val.json data.images=folder`` names two files in COCO's format and
the folder of their images; ``data.val_images`` is for validation images that lie elsewhere. Names
of embedded data sets do as well: ``data.train=scenes_v1_train data.val=scenes_v1_val``. The number
of classes follows. Empty, all is as the experiment says.
"""

data = {"train": "", "val": "", "images": "", "val_images": ""}

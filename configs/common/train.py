"""How to run a training: everything that is neither model, data, optimiser nor schedule.

Keys that a config leaves out are filled in from here. On the command line every one of them is
``train.<key>=<value>``.
"""

train = dict(
    output_dir="./output",
    # Weights to start from or, with --eval-only, to evaluate; "" starts from scratch.
    init_checkpoint="",
    # Weights of single networks for the branches, largest resolution first; "" leaves one random.
    # Only where training starts anew, and before init_checkpoint. See docs/PRETRAINED.md.
    branch_weights=[],
    max_iter=90000,
    # Equal seeds give equal runs; -1 draws a seed and records it.
    seed=0,
    # "auto" is the GPU where there is one and the CPU elsewhere.
    device="auto",
    # Name of a list of overrides in `presets`; what is typed on the command line comes on top.
    preset="",
    # Filled in when a preset is applied, which happens once.
    applied_preset="",
    presets=dict(
        # A batch of 16 on one GPU: 2 images at a time, gradients of 8 batches averaged.
        one_gpu=[
            "dataloader.train.total_batch_size=2",
            "train.accumulate=8",
            "train.amp.enabled=True",
            "train.activation_checkpointing=True",
        ],
        # Models that do not fit on one GPU with their gradients and optimiser states.
        fsdp=["train.fsdp.enabled=True", "train.activation_checkpointing=True"],
    ),
    # Mixed precision; dtype is "bf16" or "fp16".
    amp=dict(enabled=False, dtype="bf16"),
    # Batches per iteration whose gradients are averaged: batch = total_batch_size * accumulate.
    accumulate=1,
    clip_grad=dict(enabled=False, max_norm=1.0, norm_type=2.0),
    # Moving average of the weights. Its decay grows as (1 + n) / (warmup + n) up to `decay`;
    # evaluate is "ema", "model" or "both".
    ema=dict(enabled=False, decay=0.9998, warmup=10, evaluate="ema"),
    # What modules with `use_act_checkpoint` recompute in the backward pass: "block" (or True),
    # "stage" or "selective"; False recomputes what is cheap. See docs/MEMORY.md.
    activation_checkpointing=False,
    # Multiply all learning rates by batch / base_batch_size ("linear") or its root ("sqrt").
    auto_scale_lr=dict(enabled=False, base_batch_size=16, rule="linear"),
    # How several processes share the work, each with the whole model. Gradients may travel in 16
    # bits; static_graph is for models that use the same weights in every iteration.
    ddp=dict(
        broadcast_buffers=False,
        find_unused_parameters=False,
        fp16_compression=False,
        bf16_compression=False,
        static_graph=False,
        gradient_as_bucket_view=True,
    ),
    # Instead of that, every process keeps its share of weights, gradients and optimiser states.
    # dtypes are "fp32" or "bf16". See docs/DISTRIBUTED.md.
    fsdp=dict(
        enabled=False,
        param_dtype="bf16",
        reduce_dtype="fp32",
        # False keeps gathered weights until the backward pass: faster, and needs room for them.
        reshard_after_forward=True,
        cpu_offload=False,
        # False exchanges accumulated gradients once an iteration, and keeps them whole until then.
        exchange_every_batch=True,
    ),
    checkpointer=dict(period=5000, max_to_keep=3),
    # 0 evaluates only at the end.
    eval_period=5000,
    # With --eval-only: predict each image at these multiples of its usual size, and flipped, and
    # join what is found. R-CNNs only. See docs/EVALUATION.md.
    tta=dict(enabled=False, scales=[0.75, 1.0, 1.25], flip=True),
    # Keep the weights with the best metric as model_best.pth; mode is "max" or "min".
    best=dict(enabled=True, metric="bbox/AP", mode="max"),
    # Stop after `patience` evaluations that do not improve the metric by more than min_delta.
    early_stopping=dict(enabled=False, metric="bbox/AP", mode="max", patience=5, min_delta=0.0),
    log_period=20,
    tensorboard=True,
    # One graph of the backbone by torch.compile; dynamic=True is one for all sizes of images.
    compile=dict(enabled=False, backend="inductor", mode="default", dynamic=None),
    cudnn_benchmark=False,
    # torch.set_float32_matmul_precision: "highest", "high" or "medium".
    float32_matmul_precision="highest",
)

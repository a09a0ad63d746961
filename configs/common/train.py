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
    ),
    # Mixed precision; dtype is "bf16" or "fp16".
    amp=dict(enabled=False, dtype="bf16"),
    # Batches per iteration whose gradients are averaged: batch = total_batch_size * accumulate.
    accumulate=1,
    clip_grad=dict(enabled=False, max_norm=1.0, norm_type=2.0),
    # Moving average of the weights. Its decay grows as (1 + n) / (warmup + n) up to `decay`;
    # evaluate is "ema", "model" or "both".
    ema=dict(enabled=False, decay=0.9998, warmup=10, evaluate="ema"),
    # Recompute activations in the backward pass where a module offers `use_act_checkpoint`.
    activation_checkpointing=False,
    # Multiply all learning rates by batch / base_batch_size ("linear") or its root ("sqrt").
    auto_scale_lr=dict(enabled=False, base_batch_size=16, rule="linear"),
    ddp=dict(broadcast_buffers=False, find_unused_parameters=False, fp16_compression=False),
    checkpointer=dict(period=5000, max_to_keep=3),
    # 0 evaluates only at the end.
    eval_period=5000,
    # Keep the weights with the best metric as model_best.pth; mode is "max" or "min".
    best=dict(enabled=True, metric="bbox/AP", mode="max"),
    # Stop after `patience` evaluations that do not improve the metric by more than min_delta.
    early_stopping=dict(enabled=False, metric="bbox/AP", mode="max", patience=5, min_delta=0.0),
    log_period=20,
    tensorboard=True,
    cudnn_benchmark=False,
    # torch.set_float32_matmul_precision: "highest", "high" or "medium".
    float32_matmul_precision="highest",
)

#!/bin/sh
# A full training of architecture.json from random weights, by the published recipe (arXiv
# 2502.01303) for the published network nearest in parameters, partialnet_t0:
#     sh train.sh DATA [further arguments of timm's train.py, which win over those below]
# DATA: a folder with train/ and validation/, one folder a class in each, such as ImageNet-1K.
# TIMM: a checkout of https://github.com/huggingface/pytorch-image-models, whose train.py runs.
# The rate is 0.004 for 4096 images a step, and is scaled linearly to GPUS x BATCH x STEPS:
# with 1 x 256 x 1 = 256 images it is 0.00025.
# At 224x224 the network takes 83,575,744 multiply-accumulates (stem stride 1; the
# published networks have 4: to change it, edit architecture.json).
# The published trainings see 192 pixels until epoch 280; timm's script has one size for all.
set -eu
HERE=$(cd "$(dirname "$0")" && pwd)
DATA=${1:?the folder of the images, with train/ and validation/}
shift
torchrun --standalone --nproc_per_node "${GPUS:=1}" -m partialnas.space.timm \
    "${TIMM:=pytorch-image-models}/train.py" --data-dir "$DATA" \
    --model partialnet --model-kwargs "architecture='$HERE/architecture.json'" \
    --num-classes 1000 --img-size 224 --crop-pct 0.9 --drop-path 0.0 \
    --batch-size "${BATCH:=256}" --grad-accum-steps "${STEPS:=1}" \
    --opt adamw --weight-decay 0.005 \
    --lr-base 0.004 --lr-base-size 4096 --lr-base-scale linear \
    --sched cosine --epochs 300 --warmup-epochs 20 --warmup-lr 1e-6 --min-lr 1e-5 \
    --smoothing 0.1 --cutmix 1.0 --mixup 0.05 \
    --color-jitter 0 --train-interpolation bicubic \
    --amp --channels-last --output "$HERE/training" "$@"

#!/usr/bin/env bash
# DCDD Tables 7 and 8: the same for LlamaGen-XL (text to image, stage 1, 256 px), a weaker VLM.
#
# On:    4 GPUs with 80 GB to train, one to measure. Takes 0.7 of Janus' tables: 256 image tokens instead of 576, beside 512 of text.
# Needs: $LLAMAGEN with t2i_XL_stage1_256.pt and vq_ds16_t2i.pt (Hub: peizesun/llamagen_t2i) and the folder flan-t5-xl
#        (Hub: google/flan-t5-xl); pip install -e '.[llamagen]'; the gated FLUX.1-Fill-dev; $IMAGENET/{train,val}, MJHQ-30K and GenEval as for Janus.
# Makes: out/llamagen/*.
#
# Paper: ImageNet rFID 4.1919 -> 1.4087, MJHQ rFID 4.9653 -> 1.9028; generation does not improve: MJHQ gFID 59.03 -> 61.09,
#        GenEval 30.02 -> 28.19. (In its Table 8 the columns Landscape and Vehicles are identical, a copying error.)
set -euo pipefail
cd "$(dirname "$0")/.."
source runs/paper.bash
vlm=llamagen-xl@${LLAMAGEN:-weights/llamagen}
out=out/llamagen

sample=$out/sample # 225 images of 256 tokens: as many tokens as Janus' hundred have
linked "$IMAGENET/train" '*.JPEG' 5678 225 $sample
detok calibrate --vlm "$vlm" --prompts "$GENEVAL" --num-prompts 225 --images $sample \
  --guidance 7.5 --device "$DEVICE" --out $out/calibration.json
train dcdd.llamagen_xl --vlm "$vlm" --images.path "$IMAGENET/train" --calibration $out/calibration.json --out $out/dcdd

for data in "imagenet $IMAGENET/val" "mjhq $MJHQ"; do
  read -r name folder <<<"$data"
  detok reconstruct "$folder" --vlm "$vlm" --decoder vq $out/dcdd --device "$DEVICE" --out "$out/$name"
  detok evaluate "$out/$name" --reference "$out/$name/original" --protocol "dcdd-$name-256" \
    --metrics rfid ssim psnr lpips-alex lpips-vgg --device "$DEVICE" --out "$out/$name/evaluated"
done

both=(--vlm "$vlm" --decoder vq $out/dcdd --device "$DEVICE")
detok generate --bench mjhq --bench-file "$MJHQ_META" "${both[@]}" --out $out/gmjhq
detok evaluate $out/gmjhq --bench mjhq --bench-file "$MJHQ_META" --reference "$MJHQ" --protocol dcdd-mjhq-256 \
  --device "$DEVICE" --out $out/gmjhq/evaluated
detok generate --bench geneval --bench-file "$GENEVAL" "${both[@]}" --out $out/geneval
detok evaluate $out/geneval --bench geneval --judge facebook/mask2former-swin-small-coco-instance \
  --colour-judge openai/clip-vit-large-patch14 --device "$DEVICE" --out $out/geneval/evaluated

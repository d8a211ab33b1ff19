#!/usr/bin/env bash
# Run every step from a data set in the layout of Aff-Wild2 to a checked submission.
#
#   examples/affwild2_end_to_end.sh [WORK]
#
# Needs `auscan` on PATH (pip install 'auscan[train]') and two CPU cores for about twelve minutes; nothing
# is downloaded. All files are written to WORK, or to a new temporary folder. Run the script again with the
# same WORK to resume it: finished features and finished training are kept.
#
# The data are rendered by `auscan synth`. The shipped encoder was trained on real faces only, so it is first
# fine-tuned on rendered faces of other people. With the real data leave out steps 1 and 2, use the folder of
# the archives and `extract --model base`: see docs/training.md, "From archives to submission".
set -euo pipefail

examples=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=${1:-$(mktemp -d)}
mkdir -p "$work"
cd "$work"
# Tensors are small: more threads than free cores would make training slower.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
began=$SECONDS

step() {
    printf '\n== %s (%d s so far)\n' "$1" $((SECONDS - began))
}

# All runs use the same settings, except for the output folder and the shuffling of labels.
cp "$examples/affwild2_small.yaml" train.yaml
sed 's/^out: .*/out: folds/' train.yaml >folds.yaml
sed -e 's/^out: .*/out: shuffled/' -e 's/shuffle_labels: false/shuffle_labels: true/' train.yaml >shuffled.yaml
sed 's/^out: .*/out: shuffled_folds/' shuffled.yaml >shuffled_folds.yaml
grep -q 'shuffle_labels: true' shuffled_folds.yaml

step "1 synth: videos with sound, aligned pictures, labels, test lists and templates"
if [ ! -e data/truth/settings.json ]; then  # synth writes this file last
    auscan synth data --videos 30 --seconds 40 --rate 10 --seed 0 --workers 2
fi
if [ ! -e people/data/truth/settings.json ]; then
    auscan synth people/data --videos 160 --seconds 3 --rate 10 --seed 1 --workers 2
fi

step "2 fine-tune the encoder on rendered faces: frame by frame, on other people"
auscan prepare people/data --out people/index
auscan extract people/index --model nano --out people/cache
auscan train "$examples/affwild2_small_encoder.yaml"

step "3 prepare and extract: an index with its report, and the features of the frozen encoders"
auscan prepare data --out index
auscan extract index --model encoder/best --out cache

step "4 train: on the training tracks, stopped early by the validation tracks"
auscan train train.yaml

step "5 crossval: two folds by source video, every labelled track scored by a network not trained on it"
auscan crossval folds.yaml --folds 2

# Use only the out-of-fold scores of training tracks, so that no threshold is tuned on validation tracks.
step "6 thresholds: tuned after smoothing, on out-of-fold scores"
auscan evaluate index folds/scores/oof.parquet --split train --smooth 7 --save-thresholds thresholds.json

step "7 evaluate: the validation tracks, with those thresholds"
auscan evaluate index run/scores/val.parquet --split val --thresholds thresholds.json --out evaluation

step "8 ensemble: the mean of all networks on the test tracks"
auscan ensemble run/scores/test.parquet folds/fold0/scores/test.parquet folds/fold1/scores/test.parquet \
    --out test.parquet

step "9 submit: both kinds of template, and check the written files"
formats=data/test_set/prediction_files_format
for edition in CVPR_5th_ABAW_AU_test_set_sample CVPR_6th_ABAW_AU_test_set_example; do
    auscan submit test.parquet --template "$formats/$edition.txt" --thresholds thresholds.json \
        --out "submission_$edition.txt"
    auscan check-submission "submission_$edition.txt" --template "$formats/$edition.txt"
done

step "10 chance level: the same network, labels assigned to frames at random"
auscan train shuffled.yaml
auscan crossval shuffled_folds.yaml --folds 2
auscan evaluate index shuffled/scores/val.parquet --split val --smooth 7 --out evaluation_shuffled >/dev/null
auscan evaluate index folds/scores/oof.parquet --split all --smooth 7 --out evaluation_oof >/dev/null
auscan evaluate index shuffled_folds/scores/oof.parquet --split all --smooth 7 --out evaluation_oof_shuffled \
    >/dev/null

step "Scores: mean F1 of the twelve AUs (f1_all)"
python3 - <<'PYTHON'
import json


def read(folder):
    with open(f"{folder}/evaluation.json", encoding="utf-8") as file:
        return json.load(file)


def show(name, mean, interval=None):
    print(f"  {name:<58}{mean:.3f}" + (f"  ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""))


parts = {
    "validation tracks": ("evaluation", "evaluation_shuffled"),
    "all labelled tracks, out of fold": ("evaluation_oof", "evaluation_oof_shuffled"),
}
for title, (folder, shuffled) in parts.items():
    evaluation = read(folder)
    print(f"{title}: {evaluation['frames']} frames of {evaluation['sources']} videos, 95 % intervals over videos")
    show("always predicting active", evaluation["labels"]["mean_f1_of_always_yes"])
    for name, scores in {"network": evaluation, "shuffled labels": read(shuffled)}.items():
        half, tuned = scores["at_default"]["f1_all"], scores["by_others"] or scores["at_tuned"]["f1_all"]
        show(f"{name} at 0.5", half["mean"], half["interval"])
        show(f"{name}, thresholds tuned on other videos", tuned["mean"], tuned["interval"])
print("The epoch of each network was chosen on the tracks it is scored on, so its score is slightly optimistic.")
PYTHON
printf '\nAll files are in %s; open evaluation/evaluation.html there. %d s.\n' "$PWD" $((SECONDS - began))

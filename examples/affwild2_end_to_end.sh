#!/usr/bin/env bash
# From a data set of Aff-Wild2's shape to a submission that passes the check, with every command in between.
#
#   examples/affwild2_end_to_end.sh [WORK]
#
# Needs `auscan` on PATH (pip install 'auscan[train]') and two CPU cores for about twelve minutes; nothing
# is downloaded. WORK takes everything that is written; without it a new temporary folder does. Run again with
# the same WORK, the script goes on: finished features and finished training are not done twice.
#
# The data are rendered by `auscan synth`, and the shipped encoder, which has seen real faces only, is first
# taught rendered ones, of people who are not in the data. With the real data leave out steps 1 and 2, use the
# archives' folder and `extract --model base`; docs/training.md, "From archives to submission", has the commands.
set -euo pipefail

examples=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=${1:-$(mktemp -d)}
mkdir -p "$work"
cd "$work"
# Small tensors: more threads than cores, or a machine shared with others, only makes them wait.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-2}
began=$SECONDS

step() {
    printf '\n== %s (%d s so far)\n' "$1" $((SECONDS - began))
}

# The settings are one file; the runs differ in where they write and in whether the labels tell the truth.
cp "$examples/affwild2_small.yaml" train.yaml
sed 's/^out: .*/out: folds/' train.yaml >folds.yaml
sed -e 's/^out: .*/out: shuffled/' -e 's/shuffle_labels: false/shuffle_labels: true/' train.yaml >shuffled.yaml
sed 's/^out: .*/out: shuffled_folds/' shuffled.yaml >shuffled_folds.yaml
grep -q 'shuffle_labels: true' shuffled_folds.yaml

step "1 synth: videos with sound, aligned pictures, labels, test lists and templates"
if [ ! -e data/truth/settings.json ]; then  # what synth writes last
    auscan synth data --videos 30 --seconds 40 --rate 10 --seed 0 --workers 2
fi
if [ ! -e people/data/truth/settings.json ]; then
    auscan synth people/data --videos 160 --seconds 3 --rate 10 --seed 1 --workers 2
fi

step "2 an encoder that knows rendered faces: learned frame by frame from other people"
auscan prepare people/data --out people/index
auscan extract people/index --model nano --out people/cache
auscan train "$examples/affwild2_small_encoder.yaml"

step "3 prepare and extract: one index, a report to read before training, and what the frozen encoders say"
auscan prepare data --out index
auscan extract index --model encoder/best --out cache

step "4 train: on the training tracks, stopped early by the validation tracks"
auscan train train.yaml

step "5 crossval: two folds by source video, every labelled track scored by a network that never saw it"
auscan crossval folds.yaml --folds 2

# Of the out-of-fold scores only those of training tracks: the validation tracks stay unseen by the thresholds.
step "6 thresholds: tuned after smoothing, on out-of-fold scores"
auscan evaluate index folds/scores/oof.parquet --split train --smooth 7 --save-thresholds thresholds.json

step "7 evaluate: the validation tracks, with those thresholds"
auscan evaluate index run/scores/val.parquet --split val --thresholds thresholds.json --out evaluation

step "8 ensemble: the mean of all networks on the test tracks"
auscan ensemble run/scores/test.parquet folds/fold0/scores/test.parquet folds/fold1/scores/test.parquet \
    --out test.parquet

step "9 submit: both styles of template, and check what was written"
formats=data/test_set/prediction_files_format
for edition in CVPR_5th_ABAW_AU_test_set_sample CVPR_6th_ABAW_AU_test_set_example; do
    auscan submit test.parquet --template "$formats/$edition.txt" --thresholds thresholds.json \
        --out "submission_$edition.txt"
    auscan check-submission "submission_$edition.txt" --template "$formats/$edition.txt"
done

step "10 controls: the same network, labels dealt to frames at random"
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


def show(what, mean, interval=None):
    print(f"  {what:<58}{mean:.3f}" + (f"  ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""))


parts = {
    "validation tracks": ("evaluation", "evaluation_shuffled"),
    "all labelled tracks, out of fold": ("evaluation_oof", "evaluation_oof_shuffled"),
}
for title, (ours, chance) in parts.items():
    found = read(ours)
    print(f"{title}: {found['frames']} frames of {found['sources']} videos, 95 % intervals over videos")
    show("yes to everything", found["labels"]["mean_f1_of_always_yes"])
    for name, scores in {"network": found, "shuffled labels": read(chance)}.items():
        half, cuts = scores["at_default"]["f1_all"], scores["by_others"] or scores["at_tuned"]["f1_all"]
        show(f"{name} at 0.5", half["mean"], half["interval"])
        show(f"{name}, thresholds tuned on other videos", cuts["mean"], cuts["interval"])
print("Each network's epoch was chosen by the tracks that score it here, which flatters it a little.")
PYTHON
printf '\nEverything is in %s; open evaluation/evaluation.html there. %d s.\n' "$PWD" $((SECONDS - began))

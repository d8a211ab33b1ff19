"""A data set of Aff-Wild2's shape with a rendered face, a made voice and known labels: docs/synth.md."""

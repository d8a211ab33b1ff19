"""Inter-rater agreement of two codings: Cohen's kappa, ICC(3,1) and F1 for frames and for events."""

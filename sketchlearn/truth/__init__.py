"""What predictions are compared with: retraining, its bank, the exact gradient through training."""

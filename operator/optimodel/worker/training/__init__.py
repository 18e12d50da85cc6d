"""What the training steps share: loading and saving model folders, batches, the loop, losses, adapters. torch is imported inside."""

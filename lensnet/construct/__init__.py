"""Networks that are written down from labelled data: constructed by a forward pass, saved, resumed, fine-tuned."""

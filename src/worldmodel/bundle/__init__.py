"""What users take away: ONNX graphs and the model card."""
